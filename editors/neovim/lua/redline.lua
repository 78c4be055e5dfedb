--- Redline for Neovim 0.11 and later: a thin layer over the built-in client. Everything works without it, by code
--- actions alone; this adds commands. Review state is the server's: nothing is kept here but the server's last word.
local M = {}

local NAME = 'redline'
local proposals = {} ---@type table<string, table> run id -> proposal, as the server last sent it
local with_lenses = true
local order = {} ---@type string[] run ids, oldest first
local UNDECIDED = { pending = true, conflicted = true, stale = true } -- can be rejected, or sent back with a word

---@class redline.Options
---@field cmd? string[] how to start the server; default { 'redline', 'serve' }
---@field model? string such as 'anthropic:claude-sonnet-5-5' or 'builtin'
---@field limits? table<string, number> turns_max, tokens_max, cost_usd_max, minutes_max
---@field permissions? table<string, string[]> allow, ask, deny: lines such as 'run: pytest -q'
---@field lenses? boolean show accept and reject above hunks; default true

local function notify(text, level)
  vim.notify('Redline: ' .. text, level or vim.log.levels.INFO)
end

---@return vim.lsp.Client?
local function client()
  local found = vim.lsp.get_clients({ name = NAME, bufnr = 0 })[1] or vim.lsp.get_clients({ name = NAME })[1]
  if not found and vim.api.nvim_buf_get_name(0) == '' then
    notify('open a file first: the server starts with it', vim.log.levels.WARN)
  elseif not found then
    notify('the server is not running; see :checkhealth vim.lsp', vim.log.levels.ERROR)
  end
  return found
end

---Execute one of the server's commands; an error is shown.
---@param command string
---@param argument table
---@param on_result? fun(result: any)
function M.command(command, argument, on_result)
  local c = client()
  if not c then
    return
  end
  if vim.tbl_isempty(argument) then
    argument = vim.empty_dict()
  end
  c:request('workspace/executeCommand', { command = command, arguments = { argument } }, function(err, result)
    if err then
      notify(err.message, vim.log.levels.ERROR)
    elseif on_result then
      on_result(result)
    end
  end)
end

---Ask for a change; with a range, of those lines.
---@param instruction string
---@param range? integer[] first and last line, from 1
---@param background? boolean whether it goes on when the editor is closed
function M.ask(instruction, range, background)
  local argument = { instruction = instruction, background = background or false }
  if vim.bo.buftype == '' and vim.api.nvim_buf_get_name(0) ~= '' then
    argument.uri = vim.uri_from_bufnr(0)
    if range then
      argument.range = { start = { line = range[1] - 1, character = 0 }, ['end'] = { line = range[2], character = 0 } }
    end
  end
  M.command('redline.run', argument)
end

---Hunks of a buffer in order, each with its run's id: the pending ones, or those in some states.
---@param bufnr? integer
---@param states? table<string, boolean>
---@return table[]
function M.hunks(bufnr, states)
  states = states or { pending = true }
  local uri = vim.uri_from_bufnr(bufnr or 0)
  local found = {}
  for run, proposal in pairs(proposals) do
    for _, hunk in ipairs(proposal.hunks) do
      if hunk.uri == uri and states[hunk.state] then
        table.insert(found, { run = run, hunk = hunk })
      end
    end
  end
  table.sort(found, function(a, b)
    return a.hunk.range.start.line < b.hunk.range.start.line
  end)
  return found
end

---The hunk at the cursor that can still be decided on (or accepted again), with its run's id; a pending one first.
local function at_cursor()
  local line, below = vim.api.nvim_win_get_cursor(0)[1] - 1, vim.api.nvim_buf_line_count(0) - 1
  for _, found in ipairs(vim.list_extend(M.hunks(), M.hunks(0, { conflicted = true, stale = true, undone = true }))) do
    -- what is added behind the last line is at the last line
    local first, last = math.min(found.hunk.range.start.line, below), found.hunk.range['end'].line - 1
    if first <= line and line <= math.max(first, last) then
      return found
    end
  end
  notify('there is no hunk at the cursor; :RedlineNext finds one', vim.log.levels.WARN)
end

---Send the hunk at the cursor back with a word.
---@param text string
function M.revise(text)
  local found = at_cursor()
  if found then
    M.command('redline.revise', { runId = found.run, hunk = found.hunk.id, text = text })
  end
end

local function decide(command, all)
  if all then
    for run, proposal in pairs(proposals) do
      if proposal.state == 'pending' then
        M.command(command, { runId = run, hunks = 'all' })
      end
    end
    return
  end
  local found = at_cursor()
  if found then
    M.command(command, { runId = found.run, hunks = { found.hunk.id } })
  end
end

---Accept the hunk at the cursor, or all.
---@param all? boolean
function M.accept(all)
  decide('redline.accept', all)
end

---Reject the hunk at the cursor, or all.
---@param all? boolean
function M.reject(all)
  decide('redline.reject', all)
end

---Go to the next hunk of this buffer that is not decided on, conflicted ones too.
function M.next()
  local hunks = M.hunks(0, UNDECIDED)
  if #hunks == 0 then
    notify('nothing is pending in this buffer', vim.log.levels.WARN)
    return
  end
  local line = vim.api.nvim_win_get_cursor(0)[1] - 1
  local target = hunks[1]
  for _, found in ipairs(hunks) do
    if found.hunk.range.start.line > line then
      target = found
      break
    end
  end
  local last = vim.api.nvim_buf_line_count(0)
  vim.api.nvim_win_set_cursor(0, { math.min(target.hunk.range.start.line + 1, last), 0 })
end

---Show a file beside its proposed text, in diff mode, in a new tab.
local function show_diff(run, uri)
  M.command('redline.showDiff', { runId = run, uri = uri }, function(shown)
    local file = shown.files[1]
    vim.cmd.tabnew(vim.fn.fnameescape(vim.uri_to_fname(file.originalUri or file.uri)))
    vim.cmd.diffthis()
    vim.cmd('vertical rightbelow sview ' .. vim.fn.fnameescape(vim.uri_to_fname(file.proposedUri)))
    vim.cmd.diffthis()
  end)
end

---Show this buffer beside its proposed text, in diff mode, in a new tab.
function M.diff()
  local found = M.hunks()[1]
  if not found then
    notify('nothing is pending in this buffer', vim.log.levels.WARN)
    return
  end
  show_diff(found.run, found.hunk.uri)
end

local function name(uri)
  return vim.fn.fnamemodify(vim.uri_to_fname(uri), ':.')
end

---Decide on a file that would be made, deleted or moved.
local function decide_file(run, op)
  local choices = { 'Show it', 'Accept', 'Reject', 'Send back with a word' }
  vim.ui.select(choices, { prompt = ('%s %s: %s'):format(op.kind, name(op.uri), op.reason) }, function(choice)
    if choice == 'Accept' or choice == 'Reject' then
      M.command(choice == 'Accept' and 'redline.accept' or 'redline.reject', { runId = run, hunks = { op.id } })
    elseif choice == choices[4] then
      vim.ui.input({ prompt = 'What should be different? ' }, function(text)
        if text and text ~= '' then
          M.command('redline.revise', { runId = run, hunk = op.id, text = text })
        end
      end)
    elseif choice and (op.kind == 'create' or op.kind == 'delete') then
      show_diff(run, op.uri)
    end
  end)
end

---Choose among all that is not decided on: a hunk is gone to, a file is shown, accepted, rejected or sent back.
function M.list()
  local items = {}
  for _, run in ipairs(order) do
    for _, hunk in ipairs(proposals[run].hunks) do
      if UNDECIDED[hunk.state] or hunk.state == 'undone' then
        local at = hunk.range.start.line + 1
        local said = ('%s:%d: %s (%s)'):format(name(hunk.uri), at, hunk.reason, hunk.badge or hunk.state)
        table.insert(items, { said = said, hunk = hunk, at = at })
      end
    end
    for _, op in ipairs(proposals[run].fileOperations) do
      if UNDECIDED[op.state] or op.state == 'undone' then
        local to = op.newUri and ' to ' .. name(op.newUri) or ''
        local said = ('%s %s%s (%s)'):format(op.kind, name(op.uri), to, op.badge or op.state)
        table.insert(items, { said = said, run = run, op = op })
      end
    end
  end
  if #items == 0 then
    notify('nothing is pending', vim.log.levels.WARN)
    return
  end
  local function said(item)
    return item.said
  end
  vim.ui.select(items, { prompt = 'Not decided on', format_item = said }, function(item)
    if item and item.op then
      decide_file(item.run, item.op)
    elseif item then
      local bufnr = vim.uri_to_bufnr(item.hunk.uri)
      vim.bo[bufnr].buflisted = true
      vim.api.nvim_set_current_buf(bufnr)
      vim.api.nvim_win_set_cursor(0, { math.min(item.at, vim.api.nvim_buf_line_count(0)), 0 })
    end
  end)
end

---Cancel every run.
function M.cancel()
  M.command('redline.runs', {}, function(runs)
    for _, run in ipairs(runs) do
      if run.outcome == vim.NIL or run.outcome == nil then
        M.command('redline.cancel', { runId = run.runId })
      end
    end
  end)
end

---Take back what was accepted of the newest proposal of which something was.
function M.revert()
  for at = #order, 1, -1 do
    local proposal = proposals[order[at]]
    for _, items in ipairs({ proposal.hunks, proposal.fileOperations }) do
      for _, item in ipairs(items) do
        if item.state == 'accepted' then
          M.command('redline.revertRun', { runId = proposal.runId })
          return
        end
      end
    end
  end
  notify('nothing was accepted yet', vim.log.levels.WARN)
end

---Let commands and tests of this buffer's folder run, in the sandbox.
function M.trust()
  local uri = vim.uri_from_bufnr(0)
  vim.ui.select({ 'No', 'Trust it' }, { prompt = 'Let Redline run commands of this folder, in a sandbox?' }, function(choice)
    if choice == 'Trust it' then
      M.command('redline.trust', { uri = uri })
    end
  end)
end

local TITLES = {
  deny = 'Deny',
  once = 'Allow once',
  session = 'Allow for this session',
  always = 'Always allow in this folder',
}

---Answer the server's request for leave; the safe answer comes first, and leaving means it too.
local function on_permission(_, leave)
  local co = coroutine.running()
  vim.ui.select(leave.answers, {
    prompt = ('Redline asks for leave to %s\n%s'):format(leave.what, leave.why),
    format_item = function(answer)
      return TITLES[answer] or answer
    end,
  }, function(choice)
    vim.schedule(function()
      coroutine.resume(co, { decision = choice or 'deny' })
    end)
  end)
  return coroutine.yield()
end

---For a status line: "3 pending" (those that are being applied count until they are), or "".
function M.status()
  local count = 0
  for _, proposal in pairs(proposals) do
    for _, items in ipairs({ proposal.hunks, proposal.fileOperations }) do
      for _, item in ipairs(items) do
        count = count + ((item.state == 'pending' or item.state == 'applying') and 1 or 0)
      end
    end
  end
  return count > 0 and ('%d pending'):format(count) or ''
end

local function commands()
  local create = vim.api.nvim_create_user_command
  create('Redline', function(o)
    M.ask(o.args, o.range > 0 and { o.line1, o.line2 } or nil, o.bang)
  end, { nargs = '+', range = true, bang = true, desc = 'Ask Redline for a change (! in the background)' })
  create('RedlineAccept', function(o)
    M.accept(o.bang)
  end, { bang = true, desc = 'Accept the hunk at the cursor (! for all)' })
  create('RedlineReject', function(o)
    M.reject(o.bang)
  end, { bang = true, desc = 'Reject the hunk at the cursor (! for all)' })
  create('RedlineRevise', function(o)
    M.revise(o.args)
  end, { nargs = '+', desc = 'Send the hunk at the cursor back with a word' })
  create('RedlineNext', M.next, { desc = 'Go to the next hunk that is not decided on' })
  create('RedlineList', M.list, { desc = 'Choose among all that is not decided on' })
  create('RedlineDiff', M.diff, { desc = 'Show the proposed text beside this buffer' })
  create('RedlineCancel', M.cancel, { desc = 'Cancel Redline runs' })
  create('RedlineTrust', M.trust, { desc = 'Let commands of this folder run, in the sandbox' })
  create('RedlineRevert', M.revert, { desc = 'Take back what was accepted' })
end

local function lenses(bufnr)
  if vim.lsp.codelens.enable then -- 0.12
    vim.lsp.codelens.enable(true, { bufnr = bufnr })
    return
  end
  vim.lsp.codelens.refresh({ bufnr = bufnr })
end

---Before 0.12 lenses are shown anew only when they are asked for.
local function refresh_lenses()
  if vim.lsp.codelens.enable or not with_lenses then
    return
  end
  for _, c in ipairs(vim.lsp.get_clients({ name = NAME })) do
    for bufnr in pairs(c.attached_buffers) do
      vim.lsp.codelens.refresh({ bufnr = bufnr })
    end
  end
end

---Configure and enable the server, and define the commands.
---@param options? redline.Options
function M.setup(options)
  options = options or {}
  with_lenses = options.lenses ~= false
  vim.lsp.config(NAME, {
    cmd = options.cmd or { 'redline', 'serve' },
    root_markers = { '.git', '.hg', 'pyproject.toml', 'package.json', 'go.mod', 'Cargo.toml' },
    init_options = { redline = { client = true, model = options.model, limits = options.limits, permissions = options.permissions } },
    handlers = {
      ['redline/proposal'] = function(_, proposal)
        if not proposals[proposal.runId] then
          table.insert(order, proposal.runId)
        end
        proposals[proposal.runId] = proposal
        refresh_lenses()
        vim.api.nvim_exec_autocmds('User', { pattern = 'RedlineProposal', modeline = false })
      end,
      ['redline/permission'] = on_permission,
      ['redline/status'] = function() end,
      ['redline/session'] = function() end,
    },
    on_attach = function(_, bufnr)
      if with_lenses then
        lenses(bufnr)
      end
    end,
    on_exit = function()
      proposals, order = {}, {}
    end,
  })
  vim.lsp.enable(NAME)
  commands()
end

return M
