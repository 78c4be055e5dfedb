;;; redline.el --- Review a coding agent's changes hunk by hunk  -*- lexical-binding: t; -*-

;; Version: 0.1.0
;; Package-Requires: ((emacs "28.1"))
;; Keywords: languages, tools
;; SPDX-License-Identifier: MIT

;;; Commentary:

;; Redline is a language server that hosts a coding agent.  Eglot has one server for each buffer, so this file opens a
;; connection of its own beside it: turn on `redline-mode' in any buffer that visits a file, whatever eglot does there.
;; `redline-ask' asks for a change; pending hunks are highlighted; `redline-accept' and `redline-reject' decide on the
;; one at point.  All review state is the server's.

;;; Code:

(require 'cl-lib)
(require 'jsonrpc)
(require 'project)
(require 'url-util)

(defgroup redline nil "Review a coding agent's changes hunk by hunk." :group 'tools)

(defcustom redline-command '("redline" "serve")
  "How to start the server: the program and its arguments."
  :type '(repeat string) :risky t)

(defcustom redline-model nil
  "The model, such as \"anthropic:claude-sonnet-5-5\" or \"builtin\".
When nil, the first provider with a key, else the built-in engine."
  :type '(choice (const nil) string) :risky t)

(defcustom redline-permissions nil
  "What the agent may do without a question, after one, or never.
A plist of :allow, :ask and :deny.
Each is a vector of lines such as \"run: pytest -q\"."
  :type '(choice (const nil) plist) :risky t)

(defface redline-hunk
  '((((class color) (background light)) :background "#fbf0c8" :extend t)
    (((class color) (background dark)) :background "#4a4118" :extend t)
    (t :underline t))
  "Lines that a pending hunk would change.")

(defvar redline-mode)
(defvar redline--connections nil "Alist of project root and connection.")
(defvar redline--proposals (make-hash-table :test #'equal) "Run id to proposal, as the server last sent it.")
(defvar-local redline--version 0 "Version of this buffer's text that the server has.")
(defvar-local redline--stale nil "Whether the server has not seen this buffer's last changes.")
(defvar-local redline--connection nil)

;;; Connection

(defun redline--root ()
  (let ((project (project-current)))
    (expand-file-name (if project (project-root project) default-directory))))

(defun redline--uri (path)
  (concat "file://" (url-hexify-string (file-truename path) url-path-allowed-chars)))

(defun redline--path (uri)
  (decode-coding-string (url-unhex-string (string-remove-prefix "file://" uri) t) 'utf-8))

(defun redline--connect (root)
  "Return the connection of ROOT, started when there is none."
  (let ((found (cdr (assoc root redline--connections))))
    (if (and found (jsonrpc-running-p found))
        found
      (setf (alist-get root redline--connections nil t #'equal) nil)
      (let ((connection (redline--start root)))
        (setf (alist-get root redline--connections nil nil #'equal) connection)
        connection))))

(defun redline--start (root)
  (unless (executable-find (car redline-command))
    (user-error "Redline: there is no program %s; set `redline-command'" (car redline-command)))
  (let* ((default-directory root)
         (connection
          (make-instance
           'jsonrpc-process-connection
           :name "redline"
           :process (lambda ()
                      (make-process :name "redline" :command redline-command :connection-type 'pipe
                                    :coding 'utf-8-emacs-unix :noquery t
                                    :stderr (get-buffer-create " *redline stderr*")))
           :notification-dispatcher #'redline--on-notification
           :request-dispatcher #'redline--on-request)))
    (jsonrpc-request
     connection :initialize
     (list :processId (emacs-pid)
           :clientInfo (list :name "redline.el" :version "0.1.0")
           :rootUri (redline--uri root)
           :workspaceFolders (vector (list :uri (redline--uri root) :name (file-name-nondirectory (directory-file-name root))))
           :initializationOptions (list :redline (append '(:client t)
                                                         (when redline-model (list :model redline-model))
                                                         (when redline-permissions (list :permissions redline-permissions))))
           :capabilities
           '(:workspace (:applyEdit t :workspaceEdit (:documentChanges t))
             :textDocument (:hover (:contentFormat ["plaintext"]) :publishDiagnostics nil)
             :window (:workDoneProgress t :showMessage nil :showDocument (:support t))
             :general (:positionEncodings ["utf-32"])))
     :timeout 30)
    (jsonrpc-notify connection :initialized (make-hash-table))
    connection))

(defun redline-command (name argument &optional on-result)
  "Execute the server's command NAME with ARGUMENT, a plist.
Call ON-RESULT with the answer."
  (redline--flush)
  (jsonrpc-async-request
   (or redline--connection (user-error "Redline: turn on `redline-mode' first"))
   :workspace/executeCommand
   (list :command name :arguments (vector (or argument (make-hash-table))))
   :success-fn (or on-result #'ignore)
   :error-fn (lambda (err) (message "Redline: %s" (plist-get err :message)))
   :timeout-fn (lambda () (message "Redline: the server did not answer %s" name))))

;;; Documents

(defun redline--text ()
  (save-restriction (widen) (buffer-substring-no-properties (point-min) (point-max))))

(defun redline--changed (&rest _)
  (setq redline--stale t))

(defun redline--flush (&rest _)
  "Send what changed in every buffer with `redline-mode'."
  (dolist (buffer (buffer-list))
    (with-current-buffer buffer
      (when (and redline--connection redline--stale (jsonrpc-running-p redline--connection))
        (setq redline--stale nil)
        (cl-incf redline--version)
        (jsonrpc-notify redline--connection :textDocument/didChange
                        (list :textDocument (list :uri (redline--uri buffer-file-name) :version redline--version)
                              :contentChanges (vector (list :text (redline--text)))))))))

(defun redline--open ()
  (setq redline--version 1 redline--stale nil)
  (jsonrpc-notify redline--connection :textDocument/didOpen
                  (list :textDocument
                        (list :uri (redline--uri buffer-file-name) :version 1 :text (redline--text)
                              :languageId (string-remove-suffix "-mode" (symbol-name major-mode))))))

(defun redline--close ()
  (when (and redline--connection (jsonrpc-running-p redline--connection))
    (jsonrpc-notify redline--connection :textDocument/didClose
                    (list :textDocument (list :uri (redline--uri buffer-file-name))))))

(defun redline--saved ()
  (redline--flush)
  (jsonrpc-notify redline--connection :textDocument/didSave
                  (list :textDocument (list :uri (redline--uri buffer-file-name)))))

(defun redline--position (place)
  "Return the buffer position of an LSP PLACE in code points."
  (save-excursion
    (save-restriction
      (widen)
      (goto-char (point-min))
      (if (> (forward-line (plist-get place :line)) 0)
          (point-max)
        (min (line-end-position) (+ (point) (plist-get place :character)))))))

;;; What the server asks

(defun redline--on-request (_connection method params)
  (pcase method
    ('workspace/applyEdit (redline--apply (plist-get params :edit)))
    ('workspace/configuration (make-vector (length (plist-get params :items)) nil))
    ('window/showDocument (redline--show (plist-get params :uri)) '(:success t))
    ('window/showMessageRequest
     ;; The safe answer is the first one, and the one that leaving gives.
     (let* ((titles (mapcar (lambda (action) (plist-get action :title)) (plist-get params :actions)))
            (answer (completing-read (concat (plist-get params :message) " ") titles nil t nil nil (car titles))))
       (list :title answer)))
    ('redline/permission
     (let* ((answers (append (plist-get params :answers) nil))
            (prompt (format "Redline asks for leave to %s (%s) " (plist-get params :what) (plist-get params :why))))
       (list :decision (condition-case nil
                           (completing-read prompt answers nil t nil nil (car answers))
                         (quit "deny")))))
    ('window/workDoneProgress/create nil)
    (_ (jsonrpc-error :code -32601 :message "Not supported"))))

(defun redline--show (uri)
  (display-buffer (find-file-noselect (redline--path uri))))

(defun redline--apply (edit)
  "Apply a workspace EDIT of text changes.
All of it is refused when any version is not the buffer's."
  (redline--flush)
  (let* ((changes (append (plist-get edit :documentChanges) nil))
         (buffers (mapcar (lambda (change)
                            (redline--buffer (redline--path (plist-get (plist-get change :textDocument) :uri))))
                          changes)))
    (if (cl-some (lambda (pair)
                   (let ((wanted (plist-get (plist-get (car pair) :textDocument) :version)))
                     (and wanted (/= wanted (buffer-local-value 'redline--version (cdr pair))))))
                 (cl-mapcar #'cons changes buffers))
        '(:applied :json-false :failureReason "the text has changed since")
      (cl-mapc #'redline--apply-to buffers changes)
      (redline--flush)
      '(:applied t))))

(defun redline--buffer (path)
  (with-current-buffer (find-file-noselect path)
    (unless redline-mode (redline-mode 1))
    (current-buffer)))

(defun redline--apply-to (buffer change)
  (with-current-buffer buffer
    (save-excursion
      (save-restriction
        (widen)
        (undo-boundary)
        (atomic-change-group
          (dolist (edit (sort (mapcar (lambda (edit)
                                        (let ((range (plist-get edit :range)))
                                          (list (redline--position (plist-get range :start))
                                                (redline--position (plist-get range :end))
                                                (plist-get edit :newText))))
                                      (plist-get change :edits))
                              (lambda (a b) (> (car a) (car b)))))
            (goto-char (nth 0 edit))
            (delete-region (nth 0 edit) (nth 1 edit))
            (insert (nth 2 edit))))
        (undo-boundary)))))

;;; What the server tells

(defun redline--on-notification (_connection method params)
  (pcase method
    ('textDocument/publishDiagnostics (redline--highlight params))
    ('redline/proposal (puthash (plist-get params :runId) params redline--proposals) (force-mode-line-update t))
    ('window/showMessage (message "%s" (plist-get params :message)))
    ('$/progress
     (let ((value (plist-get params :value)))
       (when-let ((text (or (plist-get value :title) (plist-get value :message))))
         (message "Redline: %s" text))))))

(defun redline--highlight (params)
  (when-let ((buffer (find-buffer-visiting (redline--path (plist-get params :uri)))))
    (with-current-buffer buffer
      (save-restriction
        (widen)
        (remove-overlays (point-min) (point-max) 'redline t)
        (seq-doseq (found (plist-get params :diagnostics))
          (let* ((range (plist-get found :range))
                 (overlay (make-overlay (redline--position (plist-get range :start))
                                        (redline--position (plist-get range :end)))))
            (overlay-put overlay 'redline t)
            (overlay-put overlay 'face 'redline-hunk)
            (overlay-put overlay 'help-echo (plist-get found :message))))))))

;;; Commands

(defun redline--pending (&optional states)
  "Hunks of this buffer in order, as lists of proposal and hunk.
Those that are pending, or whose state is one of STATES."
  (let ((uri (redline--uri buffer-file-name)) found)
    (maphash (lambda (_ proposal)
               (seq-doseq (hunk (plist-get proposal :hunks))
                 (when (and (member (plist-get hunk :state) (or states '("pending"))) (equal (plist-get hunk :uri) uri))
                   (push (list proposal hunk) found))))
             redline--proposals)
    (sort found (lambda (a b) (< (redline--line (nth 1 a) :start) (redline--line (nth 1 b) :start))))))

(defun redline--line (hunk end)
  (plist-get (plist-get (plist-get hunk :range) end) :line))

;;;###autoload
(defun redline-ask (instruction)
  "Ask for a change in words (INSTRUCTION); with an active region, of those lines.
With a prefix argument in the background, where it goes on when Emacs is closed."
  (interactive "sRedline, what should change? ")
  (unless redline-mode (redline-mode 1))
  (redline-command
   "redline.run"
   (append (list :instruction instruction :uri (redline--uri buffer-file-name))
           (when current-prefix-arg (list :background t))
           (when (use-region-p)
             (list :range (list :start (list :line (1- (line-number-at-pos (region-beginning) t)) :character 0)
                                :end (list :line (line-number-at-pos (region-end) t) :character 0)))))))

(defconst redline--conflicts '("conflicted" "stale") "States in which a hunk can only be rejected or revised.")

(defun redline--at-point ()
  "Return the proposal and the hunk at point, a pending one before a conflicted."
  (let* ((line (1- (line-number-at-pos nil t)))
         (found (cl-find-if (lambda (pair)
                              (let ((start (redline--line (nth 1 pair) :start)))
                                (<= start line (max start (1- (redline--line (nth 1 pair) :end))))))
                            (append (redline--pending) (redline--pending (cons "undone" redline--conflicts))))))
    (or found (user-error "There is no hunk at point; `redline-next' finds one"))))

(defun redline--decide (command)
  (let ((found (redline--at-point)))
    (redline-command command (list :runId (plist-get (car found) :runId)
                                   :hunks (vector (plist-get (nth 1 found) :id))))))

(defun redline-revise (text)
  "Send the hunk at point back to the agent with TEXT."
  (interactive "sWhat should be different? ")
  (let ((found (redline--at-point)))
    (redline-command "redline.revise" (list :runId (plist-get (car found) :runId)
                                            :hunk (plist-get (nth 1 found) :id)
                                            :text text))))

(defun redline--decide-all (command)
  (maphash (lambda (run proposal)
             (when (equal (plist-get proposal :state) "pending")
               (redline-command command (list :runId run :hunks "all"))))
           redline--proposals))

(defun redline-accept () "Accept the hunk at point." (interactive) (redline--decide "redline.accept"))
(defun redline-reject () "Reject the hunk at point." (interactive) (redline--decide "redline.reject"))
(defun redline-accept-all () "Accept every pending hunk." (interactive) (redline--decide-all "redline.accept"))
(defun redline-reject-all () "Reject every pending hunk." (interactive) (redline--decide-all "redline.reject"))

(defun redline-next ()
  "Go to the next hunk of this buffer that is not decided on."
  (interactive)
  (let* ((line (1- (line-number-at-pos nil t)))
         (pending (redline--pending (cons "pending" redline--conflicts)))
         (next (or (cl-find-if (lambda (pair) (> (redline--line (nth 1 pair) :start) line)) pending) (car pending))))
    (unless next (user-error "Nothing is pending in this buffer"))
    (goto-char (redline--position (plist-get (plist-get (nth 1 next) :range) :start)))))

(defun redline--name (uri)
  (file-relative-name (redline--path uri)))

(defun redline--undecided ()
  "Alist of all that is not decided on, as words, and the proposal and the item."
  (let (found)
    (maphash (lambda (_ proposal)
               (seq-doseq (item (append (plist-get proposal :hunks) (plist-get proposal :fileOperations) nil))
                 (when (member (plist-get item :state) (append '("pending" "undone") redline--conflicts))
                   (push (list (format "%s %s: %s (%s)" (or (plist-get item :kind) (plist-get item :id))
                                       (redline--name (plist-get item :uri)) (plist-get item :reason)
                                       (or (plist-get item :badge) (plist-get item :state)))
                               proposal item)
                         found))))
             redline--proposals)
    (nreverse found)))

(defun redline-list ()
  "Choose among all that is not decided on.
A hunk is gone to.  A file that would be made, deleted or moved
is accepted, rejected, or sent back with a word."
  (interactive)
  (let* ((all (or (redline--undecided) (user-error "Nothing is pending")))
         (chosen (assoc (completing-read "Not decided on: " all nil t) all))
         (proposal (nth 1 chosen)) (item (nth 2 chosen)))
    (if (plist-get item :range)
        (progn (find-file (redline--path (plist-get item :uri)))
               (goto-char (redline--position (plist-get (plist-get item :range) :start))))
      (let ((run (plist-get proposal :runId)) (id (plist-get item :id))
            (answer (completing-read (format "%s: " (car chosen)) '("reject" "accept" "revise") nil t)))
        (if (equal answer "revise")
            (redline-command "redline.revise"
                             (list :runId run :hunk id :text (read-string "What should be different? ")))
          (redline-command (concat "redline." answer) (list :runId run :hunks (vector id))))))))

(defun redline-diff ()
  "Show the pending proposal as a diff."
  (interactive)
  (let ((found (car (redline--pending))))
    (unless found (user-error "Nothing is pending in this buffer"))
    (redline-command "redline.showDiff" (list :runId (plist-get (car found) :runId))
                     (lambda (shown) (redline--show (plist-get shown :uri))))))

(defun redline-cancel ()
  "Cancel every run."
  (interactive)
  (redline-command "redline.runs" nil
                   (lambda (runs)
                     (seq-doseq (run runs)
                       (unless (plist-get run :outcome)
                         (redline-command "redline.cancel" (list :runId (plist-get run :runId))))))))

(defun redline-trust ()
  "Let commands and tests of this buffer's folder run, in the sandbox."
  (interactive)
  (when (yes-or-no-p "Let Redline run commands of this folder, in a sandbox? ")
    (redline-command "redline.trust" (list :uri (redline--uri buffer-file-name)))))

(defun redline-revert ()
  "Take back what was accepted of the newest proposal of which something was."
  (interactive)
  (let (newest)
    (maphash (lambda (run proposal)
               (when (seq-some (lambda (item) (equal (plist-get item :state) "accepted"))
                               (append (plist-get proposal :hunks) (plist-get proposal :fileOperations) nil))
                 (setq newest run)))
             redline--proposals)
    (unless newest (user-error "Nothing was accepted yet"))
    (redline-command "redline.revertRun" (list :runId newest))))

(defvar redline-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "C-c C-r r") #'redline-ask)
    (define-key map (kbd "C-c C-r y") #'redline-accept)
    (define-key map (kbd "C-c C-r n") #'redline-reject)
    (define-key map (kbd "C-c C-r Y") #'redline-accept-all)
    (define-key map (kbd "C-c C-r N") #'redline-reject-all)
    (define-key map (kbd "C-c C-r u") #'redline-revert)
    (define-key map (kbd "C-c C-r v") #'redline-revise)
    (define-key map (kbd "C-c C-r j") #'redline-next)
    (define-key map (kbd "C-c C-r d") #'redline-diff)
    (define-key map (kbd "C-c C-r l") #'redline-list)
    (define-key map (kbd "C-c C-r k") #'redline-cancel)
    map)
  "Keys of `redline-mode'.")

(defun redline--lighter ()
  (let ((count (if buffer-file-name (length (redline--pending)) 0)))
    (if (> count 0) (format " Redline:%d" count) " Redline")))

;;;###autoload
(define-minor-mode redline-mode
  "Ask for changes and review them hunk by hunk, beside whatever eglot does."
  :lighter (:eval (redline--lighter))
  :keymap redline-mode-map
  (if redline-mode
      (progn
        (unless buffer-file-name
          (setq redline-mode nil)
          (user-error "Redline works on files; save this buffer to one first"))
        (setq redline--connection (redline--connect (redline--root)))
        (redline--open)
        (add-hook 'after-change-functions #'redline--changed nil t)
        (add-hook 'after-save-hook #'redline--saved nil t)
        (add-hook 'kill-buffer-hook #'redline--close nil t)
        (run-with-idle-timer 0.3 nil #'redline--flush)
        (add-hook 'post-command-hook #'redline--flush nil t))
    (redline--close)
    (setq redline--connection nil)
    (remove-overlays (point-min) (point-max) 'redline t)
    (remove-hook 'after-change-functions #'redline--changed t)
    (remove-hook 'after-save-hook #'redline--saved t)
    (remove-hook 'kill-buffer-hook #'redline--close t)
    (remove-hook 'post-command-hook #'redline--flush t)))

(provide 'redline)
;;; redline.el ends here
