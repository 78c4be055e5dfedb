"""A real Emacs in batch mode: redline.el beside eglot's server, and eglot alone by configuration."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from editors import A_PY, B_PY, debian, missing

pytestmark = pytest.mark.editor
HERE = Path(__file__).parent
ELISP = HERE.parent.parent / "editors/emacs"


@pytest.fixture(scope="module")
def emacs():
    found = os.environ.get("EMACS_BIN") or shutil.which("emacs")
    if not found and debian("emacs-nox", "elpa-eglot"):
        found = shutil.which("emacs")
    found = found or missing("there is no Emacs")
    probe = subprocess.run(
        [found, "-Q", "--batch", "--eval", PRELUDE.replace("\n", " ") + "(require 'eglot)"],
        capture_output=True,
        text=True,
    )
    if probe.returncode and not debian("elpa-eglot"):
        missing(f"this Emacs has no eglot: {probe.stderr[-300:]}")
    return found


PRELUDE = """
(when (< emacs-major-version 29)
  (dolist (d (file-expand-wildcards "/usr/share/emacs/site-lisp/elpa/*")) (push d load-path)))
"""

KIT = r"""
(require 'eglot) (require 'json)
(setq eglot-sync-connect 10 last-nonmenu-event ?\r create-lockfiles nil vc-handled-backends nil make-backup-files nil
      auto-save-default nil python-indent-guess-indent-offset nil)
(advice-add 'y-or-n-p :override (lambda (&rest _) t))
(defvar py (getenv "PY"))
(defvar seen nil)
(advice-add 'message :before (lambda (f &rest a) (when f (push (apply #'format f a) seen))))
(defun until (what secs)
  (let ((end (+ (float-time) secs)) value)
    (while (and (not (setq value (funcall what))) (< (float-time) end))
      (accept-process-output nil 0.05)
      ;; batch mode has no idle time, when eglot and redline.el send what changed
      (when eglot--managed-mode (eglot--signal-textDocument/didChange))
      (when (fboundp 'redline--flush) (redline--flush)))
    (or value (error "it did not come true: %S; messages: %S" what (seq-take seen 8)))))
(defun text (file) (with-current-buffer (find-file-noselect file) (buffer-substring-no-properties (point-min) (point-max))))
(defun other-works ()
  (let ((answer (jsonrpc-request (eglot-current-server) :textDocument/hover (eglot--TextDocumentPositionParams))))
    (format "%s" (plist-get answer :contents))))
"""


def batch(emacs, project, body, **env):
    script = project.parent / "t.el"
    script.write_text(
        ";; -*- lexical-binding: t -*-\n"
        + PRELUDE
        + KIT
        + f'(princ (concat "\\n%%RESULT%%" (json-encode {body})))(kill-emacs 0)'
    )
    done = subprocess.run(
        [emacs, "-Q", "--batch", "-L", str(ELISP), "-l", str(script)], cwd=project, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120, env={**os.environ, "PY": sys.executable, "OTHER": str(HERE / "other_server.py"), "LANG": "C.UTF-8", **env},
    )  # fmt: skip
    if "%%RESULT%%" not in done.stdout:
        pytest.fail("\n".join(line[:400] for line in done.stderr.splitlines()[:25]))
    return json.loads(done.stdout.rsplit("%%RESULT%%", 1)[1])


BESIDE = r"""
(let (out)
  (setq eglot-server-programs `((python-mode . (,py ,(getenv "OTHER"))))
        redline-command (list py "-m" "redline_server" "serve") redline-model "builtin")
  (require 'redline)
  (find-file "a.py") (python-mode) (apply #'eglot (eglot--guess-contact))
  (redline-mode 1)
  (redline-ask "rename foo to bar; remove unused")
  (until (lambda () (= (length (redline--pending)) 3)) 30)
  (push (length (seq-filter (lambda (o) (overlay-get o 'redline)) (overlays-in (point-min) (point-max)))) out)
  (goto-char (point-min))
  (redline-accept)
  (until (lambda () (string-prefix-p "import sys" (text "a.py"))) 10)
  (push (text "a.py") out)
  (until (lambda () (equal (mapcar (lambda (p) (redline--line (nth 1 p) :start)) (redline--pending)) '(3 7))) 10)
  (goto-char (point-min)) (redline-next)
  (push (line-number-at-pos) out)
  (redline-reject)
  (until (lambda () (= (length (redline--pending)) 1)) 10)
  (push (other-works) out)
  (setq last-command nil)
  (undo-only 1)
  (redline--flush)
  (push (text "a.py") out)
  (push (and (seq-find (lambda (m) (string-match-p "Redline: rename foo to bar" m)) seen) t) out)
  (push (other-works) out)
  (redline-accept-all)
  (until (lambda () (string-match-p "import bar" (text "b.py"))) 10)
  (push (text "b.py") out)
  (nreverse out))
"""


def test_redline_el_beside_another_server(emacs, project):
    shown, accepted, line, other, undone, progress, other_still, b_text = batch(emacs, project, BESIDE)
    assert shown == 3
    assert accepted == A_PY.replace("import os\n", "")
    assert line == 4
    assert other.startswith("OTHER")
    assert undone == A_PY
    assert progress is True
    assert other_still.startswith("OTHER")
    assert b_text == B_PY.replace("foo", "bar")
    assert (project / "a.py").read_text() == A_PY
    assert (project / "b.py").read_text() == B_PY


ALONE = r"""
(let (out (run nil))
  (setq eglot-server-programs `((python-mode . (,py "-m" "redline_server" "serve"))))
  (find-file "a.py") (python-mode) (apply #'eglot (eglot--guess-contact))
  (cl-flet ((do (name &rest arg) (jsonrpc-request (eglot-current-server) :workspace/executeCommand
                                                   (list :command name :arguments (vector (or arg (make-hash-table)))))))
    (cl-labels ((states () (let ((found (seq-find (lambda (p) (equal (plist-get p :runId) run)) (do "redline.proposals"))))
                             (mapcar (lambda (h) (plist-get h :state)) (plist-get found :hunks)))))
      (setq run (plist-get (do "redline.run" :instruction "rename foo to bar" :uri (concat "file://" (file-truename "a.py"))) :runId))
      (until (lambda () (= (length (states)) 4)) 30)
      (do "redline.accept" :runId run :hunks ["h1"])
      (until (lambda () (string-match-p "def bar" (text "a.py"))) 10)
      (push (text "a.py") out)
      (do "redline.reject" :runId run :hunks ["h2"])
      (until (lambda () (equal (states) '("accepted" "rejected" "pending" "pending"))) 10)
      (setq buffer-undo-list (cons nil buffer-undo-list) last-command nil)
      (undo-only 1)
      (eglot--signal-textDocument/didChange)
      (until (lambda () (equal (car (states)) "undone")) 10)
      (push (text "a.py") out)))
  (nreverse out))
"""


def test_eglot_alone_by_configuration(emacs, project):
    accepted, undone = batch(emacs, project, ALONE, REDLINE_MODEL="builtin")
    assert accepted == A_PY.replace("def foo", "def bar")
    assert undone == A_PY
    assert (project / "a.py").read_text() == A_PY


REVISE = r"""
(let (out)
  (setq redline-command (list py "-m" "redline_server" "serve") redline-model (getenv "FIRST"))
  (require 'redline)
  (find-file "a.py") (python-mode) (redline-mode 1)
  (redline-ask "change it")
  (until (lambda () (= (length (redline--pending)) 1)) 30)
  (redline-command "redline.setModel" (list :model (getenv "SECOND")))
  (goto-char (point-min)) (redline-next)
  (redline-revise "call it value")
  (until (lambda () (equal (plist-get (nth 1 (car (redline--pending))) :id) "h1r1")) 30)
  (redline-accept-all)
  (until (lambda () (string-match-p "def foo(value):" (text "a.py"))) 10)
  (text "a.py"))
"""


def test_a_word_on_a_hunk_brings_another_one(emacs, project, scripted_edit):
    first = scripted_edit("first", "def foo(x):", "def foo(y):")
    second = scripted_edit("second", "def foo(y):", "def foo(value):")
    text = batch(emacs, project, REVISE, FIRST=first, SECOND=second)
    assert text == A_PY.replace("def foo(x):", "def foo(value):")


def test_redline_el_compiles_without_a_warning(emacs, tmp_path):
    shutil.copy(ELISP / "redline.el", tmp_path)
    done = subprocess.run(
        [emacs, "-Q", "--batch", "--eval", "(setq byte-compile-error-on-warn t)", "-f", "batch-byte-compile", "redline.el"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


ASKED = r"""
(let (out prompt offered)
  (setq redline-command (list py "-m" "redline_server" "serve" "--model" (getenv "ASKING")))
  (advice-add 'completing-read :override
              (lambda (p choices &rest _) (setq prompt p offered choices) (getenv "ANSWER")))
  (require 'redline)
  (find-file "a.py") (python-mode) (redline-mode 1)
  (redline-ask "read the file beside")
  (let (run)
    (until (lambda ()
             (redline-command "redline.runs" nil (lambda (runs) (setq run (elt runs 0))))
             (accept-process-output nil 0.2)
             (and run (plist-get run :outcome)))
           30)
    (push (append offered nil) out)
    (push prompt out)
    (push (length (plist-get run :refusals)) out))
  (nreverse out))
"""


@pytest.mark.parametrize(("answer", "refusals"), [("once", 0), ("deny", 1)])
def test_leave_is_asked_for_with_the_safe_answer_first(emacs, project, asking, answer, refusals, tmp_path):
    env = {"ASKING": asking, "ANSWER": answer, "REDLINE_STATE_DIR": str(tmp_path / "state")}
    offered, prompt, refused = batch(emacs, project, ASKED, **env)
    assert offered == ["deny", "once", "session", "always"]
    assert "asks for leave to read" in prompt
    assert refused == refusals


REVERT = r"""
(let (out)
  (cl-flet ((states () (let (all) (maphash (lambda (_ p) (seq-doseq (h (plist-get p :hunks)) (push (plist-get h :state) all)))
                                           redline--proposals)
                         all)))
    (setq redline-command (list py "-m" "redline_server" "serve") redline-model "builtin")
    (require 'redline)
    (find-file "a.py") (python-mode) (redline-mode 1)
    (redline-ask "rename foo to bar")
    (until (lambda () (equal (states) '("pending" "pending" "pending" "pending"))) 30)
    (redline-diff)
    (until (lambda () (seq-find (lambda (b) (string-suffix-p ".diff" (buffer-name b))) (buffer-list))) 10)
    (with-current-buffer (seq-find (lambda (b) (string-suffix-p ".diff" (buffer-name b))) (buffer-list))
      (push (vector buffer-read-only (buffer-substring-no-properties (point-min) (point-max))) out))
    (redline-accept-all)
    (until (lambda () (equal (states) '("accepted" "accepted" "accepted" "accepted"))) 20)
    (push (vector (text "a.py") (text "b.py")) out)
    (goto-char (point-max)) (insert "# typed below\n")
    (redline-revert)
    (until (lambda () (equal (states) '("undone" "undone" "undone" "undone"))) 20)
    (push (vector (text "a.py") (text "b.py")) out))
  (nreverse out))
"""


def test_what_was_accepted_is_reverted(emacs, project):
    (read_only, diff), accepted, reverted = batch(emacs, project, REVERT)
    assert read_only
    assert "-def foo(x):\n+def bar(x):\n" in diff
    assert accepted == [A_PY.replace("foo", "bar"), B_PY.replace("foo", "bar")]
    assert reverted == [A_PY + "# typed below\n", B_PY]


CONFLICT = r"""
(let (out)
  (setq redline-command (list py "-m" "redline_server" "serve") redline-model (getenv "FIRST"))
  (require 'redline)
  (find-file "a.py") (python-mode) (redline-mode 1) (buffer-enable-undo)
  (redline-ask "change it")
  (until (lambda () (= (length (redline--pending)) 1)) 30)
  (goto-char (point-min)) (search-forward "def foo(x):") (undo-boundary) (insert "  # mine") (undo-boundary)
  (until (lambda () (= (length (redline--pending redline--conflicts)) 1)) 10)
  (redline-accept)
  (until (lambda () (seq-find (lambda (m) (string-match-p "you changed the same text since" m)) seen)) 10)
  (push (text "a.py") out)
  (setq last-command nil) (undo-only 1)
  (until (lambda () (= (length (redline--pending)) 1)) 10)
  (goto-char (point-min)) (search-forward "def foo(x):") (insert "  # mine")
  (until (lambda () (= (length (redline--pending redline--conflicts)) 1)) 10)
  (redline-command "redline.setModel" (list :model (getenv "SECOND")))
  (goto-char (point-min)) (redline-next)
  (push (line-number-at-pos) out)
  (redline-revise "keep my comment")
  (until (lambda () (equal (mapcar (lambda (p) (plist-get (nth 1 p) :id)) (redline--pending)) '("h1r1"))) 30)
  (goto-char (point-min)) (redline-next) (redline-accept)
  (until (lambda () (string-match-p "value" (text "a.py"))) 10)
  (push (text "a.py") out)
  (nreverse out))
"""


def test_typing_in_a_hunk_makes_it_a_conflict_to_be_undone_or_asked_again(emacs, project, scripted_edit):
    first = scripted_edit("first", "def foo(x):", "def foo(y):")
    second = scripted_edit("second", "def foo(x):  # mine", "def foo(value):  # mine")
    mine, line, ended = batch(emacs, project, CONFLICT, FIRST=first, SECOND=second)
    assert mine == A_PY.replace("def foo(x):", "def foo(x):  # mine")
    assert line == 5
    assert ended == A_PY.replace("def foo(x):", "def foo(value):  # mine")


LEFT = r"""
(progn
  (setq redline-command (list py "-m" "redline_server" "serve") redline-model "builtin")
  (require 'redline)
  (find-file "a.py") (python-mode) (redline-mode 1)
  (unless (equal (getenv "AGAIN") "yes") (redline-ask "rename foo to bar"))
  (until (lambda () (= (length (redline--pending)) 2)) 30)
  (when (equal (getenv "AGAIN") "yes")
    (redline-accept-all)
    (until (lambda () (and (string-match-p "import bar" (text "b.py")) (string-match-p "def bar" (text "a.py")))) 20))
  (vector (text "a.py") (text "b.py")))
"""


def test_proposals_are_there_after_a_restart_on_what_the_files_have_become(emacs, project, tmp_path):
    env = {"REDLINE_STATE_DIR": str(tmp_path / "state")}
    assert batch(emacs, project, LEFT, **env) == [A_PY, B_PY]
    (project / "a.py").write_text("# above\n" + A_PY)
    after = batch(emacs, project, LEFT, AGAIN="yes", **env)
    assert after == ["# above\n" + A_PY.replace("foo", "bar"), B_PY.replace("foo", "bar")]


FILES = r"""
(let (out)
  (setq redline-command (list py "-m" "redline_server" "serve") redline-model (getenv "FILES"))
  (require 'redline)
  (advice-add 'completing-read :override
              (lambda (p choices &rest _) (push p out) (if (equal p "Not decided on: ") (caar choices) "accept")))
  (find-file "a.py") (python-mode) (redline-mode 1)
  (redline-ask "add tests")
  (until (lambda () (redline--undecided)) 30)
  (redline-list)
  (until (lambda () (file-exists-p "conftest.py")) 10)
  (nreverse out))
"""


def test_a_new_file_that_runs_later_is_chosen_from_the_list(emacs, project, scripted_file):
    prompts = batch(emacs, project, FILES, FILES=scripted_file)
    assert prompts[0] == "Not decided on: "
    assert prompts[1].startswith("create conftest.py")
    assert (project / "conftest.py").read_text() == "x = 1\n"
