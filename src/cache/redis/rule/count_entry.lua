-- Count entries: the twin of `CountEntry` in src/domain/count_entry.rs.
--
-- A count entry is a string: "like_count:revision", or "?" and the name of this lifetime while the count is unknown. While
-- events are in flight, ":sum:size:oldest:" follows, where oldest is a version of 18 digits, and then either each event, or
-- * if a sorted set holds them. Of an event, the entry has a newline, its version (18 digits), liked, base and user; the
-- set has liked, base and user, scored by the version.

-- The loaded count entries. Their events are in `events`, as text, unless the sorted set holds them.
local counts = {}

local function set_of(key)
  return (string.gsub(key, ':c:{', ':f:{', 1))
end

-- Whether a revision is newer than another.
local function is_later(revision, than)
  return #revision > #than or (#revision == #than and revision > than)
end

-- The entry of a resource; nil if there is none. Its count and its revision stay text.
local function count_of(key)
  local held = counts[key]
  if held then
    return held
  end
  local text = texts[key]
  if not text then
    return nil
  end
  local _, stop, count, revision = find(text, '^(-?%d+):(%d+)')
  if not count then
    held = { life = sub(text, 2) }
  else
    held = { count = count, revision = revision, sum = 0, size = 0, events = '' }
    if stop < #text then
      local _, head, sum, size, oldest = find(text, '^:(-?%d+):(%d+):(%d+):', stop + 1)
      held.sum, held.size, held.oldest = tonumber(sum), tonumber(size), oldest
      held.events = sub(text, head + 1)
      if held.events == '*' then
        held.events = nil
      end
    end
  end
  counts[key] = held
  return held
end

local function store_count(key, held)
  local text
  if held.life then
    text = '?' .. held.life
  elseif held.size == 0 then
    text = held.count .. ':' .. held.revision
  else
    text = held.count .. ':' .. held.revision .. ':' .. text_of(held.sum) .. ':' .. text_of(held.size) .. ':'
      .. held.oldest .. ':' .. (held.events or '*')
  end
  store(key, text, held.is_new)
end

local function shown(held)
  if not held or held.life then
    return ''
  end
  return held.sum == 0 and held.count or text_of(held.count + held.sum)
end

-- The place of the event of a user in the text of an entry.
local function place_of(events, user)
  local from = EVENT
  while true do
    local start, stop = find(events, user, from, true)
    if not start then
      return nil
    end
    local before, after = start - EVENT, sub(events, stop + 1, stop + 1)
    if before > 0 and (after == '' or after == '\n') and sub(events, before, before) == '\n' then
      return before, stop
    end
    from = start + 1
  end
end

-- The event in flight of a user: its state, its base, and its place in the text of the entry; nil if there is none.
local function event_of(key, held, user)
  if held.size == 0 then
    return nil
  end
  if held.events then
    local start, stop = place_of(held.events, user)
    if not start then
      return nil
    end
    return sub(held.events, start + 1, start + 19), sub(held.events, start + 20, start + 20), start, stop
  end
  local names = {}
  for n, code in ipairs(CODES) do
    names[n] = code .. user
  end
  local scores = call('ZMSCORE', set_of(key), unpack(names))
  for n, code in ipairs(CODES) do
    if scores[n] then
      return format('%018.0f', tonumber(scores[n])) .. sub(code, 1, 1), sub(code, 2)
    end
  end
end

-- Removes an event that `event_of` returned.
local function remove(key, held, user, event, base, start, stop)
  local code = sub(event, 19) .. base
  held.size, held.sum = held.size - 1, held.sum - DIFFERENCES[code]
  if held.events then
    held.events = sub(held.events, 1, start - 1) .. sub(held.events, stop + 1)
  else
    call('ZREM', set_of(key), code .. user)
    if held.size == 0 then
      held.events = ''
    end
  end
end

-- Each event in the text of an entry: its version and its name.
local function each_event(events)
  return string.gmatch(events, '\n(%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d)([^\n]*)')
end

local function insert(key, held, user, state, base)
  local code = sub(state, 19) .. base
  if held.events and held.size >= FEW then
    local all = {}
    for other, event_name in each_event(held.events) do
      all[#all + 1], all[#all + 2] = other, event_name
    end
    -- Events may be left from an entry that was evicted.
    call('UNLINK', set_of(key))
    call('ZADD', set_of(key), unpack(all))
    held.events = nil
  end
  held.size, held.sum = held.size + 1, held.sum + DIFFERENCES[code]
  if held.events then
    held.events = held.events .. '\n' .. state .. base .. user
  else
    call('ZADD', set_of(key), sub(state, 1, 18), code .. user)
    if held.size % 64 == FEW + 1 then
      call('EXPIRE', set_of(key), time_to_live)
    end
  end
end

local function find_oldest(key, held)
  if held.size == 0 then
    return
  end
  local oldest = now
  if held.events then
    for version in each_event(held.events) do
      if version < oldest then
        oldest = version
      end
    end
  else
    local first = call('ZRANGE', set_of(key), 0, 0, 'WITHSCORES')[2]
    if first then
      first = format('%018.0f', tonumber(first))
      if first < oldest then
        oldest = first
      end
    end
  end
  held.oldest = oldest
end

local function join(key, held, user, state, base)
  local event, event_base, start, stop = event_of(key, held, user)
  if event then
    if not newer(state, event) then
      return
    end
    remove(key, held, user, event, event_base, start, stop)
    -- The count does not have the earlier event yet either.
    base = event_base
  end
  local version = sub(state, 1, 18)
  -- A version from the future does not hide how long its event has been in flight.
  local oldest = held.size > 0 and held.oldest or now
  held.oldest = version < oldest and version or oldest
  insert(key, held, user, state, base)
  held.is_changed = true
end

-- Settles a count, or '' without one, and the states of the first `size` users of a list.
local function settle_count(key, count, revision, size, wanted, states)
  local held = count_of(key)
  if not held then
    return
  end
  if held.life then
    if count ~= '' then
      held.life, held.is_changed = new_life(held.life), true
    end
    return
  end
  local is_current = count ~= '' and not is_later(held.revision, revision)
  local left = false
  for n = 1, size do
    local user, state = wanted[n], states[n]
    local event, base, start, stop = event_of(key, held, user)
    if event then
      if not newer(event, state) then
        remove(key, held, user, event, base, start, stop)
        left, held.is_changed = true, true
      elseif is_current and base ~= sub(state, 19) then
        -- The count now has an earlier event of this user.
        remove(key, held, user, event, base, start, stop)
        insert(key, held, user, event, sub(state, 19))
        held.is_changed = true
      end
    end
  end
  if is_current and revision ~= held.revision then
    held.count, held.revision, held.is_changed = count, revision, true
  end
  if left then
    find_oldest(key, held)
    if held.size > 0 and not held.events then
      call('EXPIRE', set_of(key), time_to_live)
    end
  end
end

local function forget_in_count(key, user, version)
  local held = count_of(key)
  if not held or held.life then
    return
  end
  local event, base, start, stop = event_of(key, held, user)
  if event and sub(event, 1, 18) == version then
    remove(key, held, user, event, base, start, stop)
    find_oldest(key, held)
    held.is_changed = true
  end
end

-- Creates a count entry if there is none. Returns the name of its lifetime, or '' if the count is known.
local function open_count(key)
  local held = count_of(key)
  if not held then
    held = { life = new_life(), is_changed = true, is_new = true }
    counts[key] = held
  end
  return held.life or ''
end

-- Returns 1 if the entry is now as new as the filling, 2 if it keeps an earlier count, because the newer one may include
-- what is in flight, and 0 if it refuses.
local function fill_count(key, life, count, revision)
  local held = count_of(key)
  if not held or (held.life and held.life ~= life) then
    return '0'
  end
  if held.life then
    counts[key] = { count = count, revision = revision, sum = 0, size = 0, events = '', is_changed = true }
  elseif is_later(revision, held.revision) then
    if held.size > 0 then
      return '2'
    end
    held.count, held.revision, held.is_changed = count, revision, true
  end
  return '1'
end
