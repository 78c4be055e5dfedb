import pytest

from editors import A_PY, B_PY


@pytest.fixture
def project(folder):
    (folder / "a.py").write_text(A_PY)
    (folder / "b.py").write_text(B_PY)
    return folder
