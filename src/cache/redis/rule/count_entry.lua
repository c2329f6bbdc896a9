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

-- The entry of a resource; nil if there is none.
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
    held = { count = tonumber(count), revision = tonumber(revision), sum = 0, size = 0, events = '' }
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
    text = held.count .. ':' .. held.revision .. ':' .. held.sum .. ':' .. held.size .. ':' .. held.oldest .. ':'
      .. (held.events or '*')
  end
  store(key, text, held.is_new)
end

local function shown(held)
  if not held or held.life then
    return ''
  end
  return held.count + held.sum
end

-- Whether an event in flight is newer than a state.
local function event_is_newer(event, state)
  local version, other = event.version, sub(state, 1, 18)
  return version > other or (version == other and sub(event.code, 1, 1) < sub(state, 19))
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

-- The event in flight of a user.
local function event_of(key, held, user)
  if held.size == 0 then
    return nil
  end
  if held.events then
    local start = place_of(held.events, user)
    return start and { version = sub(held.events, start + 1, start + 18), code = sub(held.events, start + 19, start + 20) }
  end
  local names = {}
  for n, code in ipairs(CODES) do
    names[n] = code .. user
  end
  local scores = call('ZMSCORE', set_of(key), unpack(names))
  for n, code in ipairs(CODES) do
    if scores[n] then
      return { version = format('%018.0f', tonumber(scores[n])), code = code }
    end
  end
end

local function remove(key, held, user, event)
  held.size, held.sum = held.size - 1, held.sum - DIFFERENCES[event.code]
  if held.events then
    local start, stop = place_of(held.events, user)
    held.events = sub(held.events, 1, start - 1) .. sub(held.events, stop + 1)
  else
    call('ZREM', set_of(key), event.code .. user)
    if held.size == 0 then
      held.events = ''
    end
  end
end

-- Each event in the text of an entry: its version and its name.
local function each_event(events)
  return string.gmatch(events, '\n(%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d)([^\n]*)')
end

local function insert(key, held, user, version, code)
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
    held.events = held.events .. '\n' .. version .. code .. user
  else
    call('ZADD', set_of(key), version, code .. user)
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
  local event = event_of(key, held, user)
  if event then
    if event_is_newer(event, state) or event.version .. sub(event.code, 1, 1) == state then
      return
    end
    -- The count does not have the earlier event yet either.
    base = sub(event.code, 2)
    remove(key, held, user, event)
  end
  local version = sub(state, 1, 18)
  -- A version from the future does not hide how long its event has been in flight.
  local oldest = held.size > 0 and held.oldest or now
  held.oldest = version < oldest and version or oldest
  insert(key, held, user, version, sub(state, 19) .. base)
  held.is_changed = true
end

-- Settles a count, or '' without one, and the states of some users.
local function settle_count(key, count, revision, wanted, states)
  local held = count_of(key)
  if not held then
    return
  end
  if held.life then
    if count ~= '' then
      held.life, held.is_changed = new_life(), true
    end
    return
  end
  local given = count ~= '' and tonumber(revision)
  local is_current = given and given >= held.revision
  local left = false
  for n, user in ipairs(wanted) do
    local event = event_of(key, held, user)
    if event then
      local liked = sub(states[n], 19)
      if not event_is_newer(event, states[n]) then
        remove(key, held, user, event)
        left, held.is_changed = true, true
      elseif is_current and sub(event.code, 2) ~= liked then
        -- The count now has an earlier event of this user.
        remove(key, held, user, event)
        insert(key, held, user, event.version, sub(event.code, 1, 1) .. liked)
        held.is_changed = true
      end
    end
  end
  if given and given > held.revision then
    held.count, held.revision, held.is_changed = tonumber(count), given, true
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
  local event = event_of(key, held, user)
  if event and event.version == version then
    remove(key, held, user, event)
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

local function fill_count(key, life, count, revision)
  local held = count_of(key)
  if not held or (held.life and held.life ~= life) then
    return '0'
  end
  if held.life then
    held = { sum = 0, size = 0, events = '', revision = -1 }
    counts[key] = held
  end
  if revision > held.revision then
    held.count, held.revision, held.is_changed = tonumber(count), revision, true
  end
  return '1'
end
