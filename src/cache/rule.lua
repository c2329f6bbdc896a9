-- The newest-wins rule on many entries at once: the twin of `UserEntry` and `CountEntry` in src/domain/, which say why.
-- One call runs one verb on many pairs. It loads all entries in one command, and stores each changed entry once.
--
-- A user entry is a string:
--   16 digits  the name of this lifetime of the entry (its incarnation)
--   1 letter   its coverage: u (unfilled), p (partial) or c (complete)
--   5 digits   the number of its pairs
--   and for each pair a newline, the resource, a tab, and 20 characters: the version (18 digits), liked (1 or 0), and
--   s if the database is known to hold it, the base (1, 0, or - if it is unknown) while it is in flight, r after a revert,
--   or ? if only the database knows the state
-- A count entry is a string: "like_count:revision", or "?" and the name of this lifetime while the count is unknown. While
-- events are in flight, ":sum:size:oldest:" follows, where oldest is a version of 18 digits, and then either each event, or * if a sorted set holds them. Of an
-- event, the entry has a newline, its version (18 digits), liked, base and user; the set has liked, base and user, scored
-- by the version.
--
-- KEYS: user entries and count entries; the text between the braces names the user or the resource. The sorted set of a
-- count entry is in the same slot. In a cluster, KEYS is one entry, and a pair takes two calls.
-- ARGV: the verb, the time to live in seconds, the most pairs of a user entry, the database's time in microseconds, a
-- number from which names of lifetimes are counted, and then what the verb needs. A state is 18 digits and liked.

local verb, time_to_live, limit, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), string.format('%018.0f', ARGV[4])
local lives = tonumber(ARGV[5])
local call, sub, find, format = redis.call, string.sub, string.find, string.format

local HEADER = 22
local NEVER = '0000000000000000000'
-- What an event in flight sets and what the database had.
local CODES = { '00', '01', '10', '11' }
local DIFFERENCES = { ['00'] = 0, ['01'] = -1, ['10'] = 1, ['11'] = 0 }
-- A user entry of this length is written in parts, so that replicas receive the parts only.
local LARGE = 2048
-- The most events in flight that are in the count entry itself.
local FEW = 8
-- The verbs that renew the lifetime of the entries that they change.
local RENEWS = { apply = true, apply_to_user = true, join_count = true }
-- The length of an event in the count entry, without its user.
local EVENT = 21
-- The place of the user or the resource in a key.
local NAME = KEYS[1] and find(KEYS[1], '{', 1, true) + 1

local function new_life()
  lives = lives + 1
  return format('%016.0f', lives)
end

-- Whether a state is newer than another. Between equal versions the unlike is newer.
local function newer(state, than)
  local version, than_version = sub(state, 1, 18), sub(than, 1, 18)
  return version > than_version or (version == than_version and state < than)
end

local function name(key)
  return sub(key, NAME, -2)
end

-- Stores an entry. A new one has no lifetime to keep.
local function store(key, text, is_new)
  if is_new or RENEWS[verb] then
    call('SET', key, text, 'EX', time_to_live)
  else
    call('SET', key, text, 'KEEPTTL')
  end
end

-- All entries of KEYS, by their keys.
local texts = {}
for first = 1, #KEYS, 4000 do
  local last = math.min(first + 3999, #KEYS)
  local found = call('MGET', unpack(KEYS, first, last))
  for n = first, last do
    texts[KEYS[n]] = found[n - first + 1]
  end
end

-- User entries ------------------------------------------------------------------------------------------------------

-- The loaded user entries: their text, and how it differs from what Redis holds.
local users = {}

-- The entry of a user; nil if there is none and `create` is not set.
local function user_of(key, create)
  local user = users[key]
  if not user then
    local text = texts[key]
    if text == true then
      -- It was written in parts.
      text = call('GET', key)
    end
    if text then
      user = { text = text }
    elseif create then
      user = { text = new_life() .. 'u00000', is_changed = true, is_new = true }
    else
      return nil
    end
    users[key] = user
  end
  return user
end

local function coverage(user)
  return sub(user.text, 17, 17)
end

-- Overwrites a part of an entry that was not changed before. Replicas receive the part only.
local function write(key, user, place, text)
  if user.is_changed then
    user.text = sub(user.text, 1, place - 1) .. text .. sub(user.text, place + #text)
  else
    call('SETRANGE', key, place - 1, text)
    users[key], texts[key] = nil, true
  end
end

-- The pair of a resource: its place if the entry holds it, its state and its progress.
local function pair(user, resource)
  local text = user.text
  local _, stop = find(text, '\n' .. resource .. '\t', HEADER + 1, true)
  if stop then
    return stop + 1, sub(text, stop + 1, stop + 19), sub(text, stop + 20, stop + 20)
  end
  return nil, NEVER, coverage(user) == 'c' and 's' or '?'
end

-- Drops the oldest pairs that are not in flight, down to half of the limit.
local function trim(user)
  local size, order, droppable = tonumber(sub(user.text, 18, 22)), {}, {}
  if size <= limit then
    return
  end
  local each = '\n([^\t]*)\t(' .. string.rep('%d', 19) .. ')(.)'
  for resource, state, progress in string.gmatch(sub(user.text, HEADER + 1), each) do
    local held = { resource = resource, version = sub(state, 1, 18), state = state .. progress }
    order[#order + 1] = held
    if progress == 's' or progress == 'r' or progress == '?' then
      droppable[#droppable + 1] = held
    end
  end
  if #droppable == 0 then
    return
  end
  table.sort(droppable, function(one, other)
    if one.version ~= other.version then
      return one.version < other.version
    end
    return one.resource < other.resource
  end)
  for n = 1, math.min(size - math.floor(limit / 2), #droppable) do
    droppable[n].dropped = true
  end
  local kept = {}
  for _, held in ipairs(order) do
    if not held.dropped then
      kept[#kept + 1] = '\n' .. held.resource .. '\t' .. held.state
    end
  end
  local left = coverage(user) == 'c' and 'p' or coverage(user)
  user.text = new_life() .. left .. format('%05d', #kept) .. table.concat(kept)
end

-- Sets a pair at its place, or adds it.
local function put(key, user, place, resource, state)
  local text = user.text
  local size = tonumber(sub(text, 18, 22))
  if place then
    if size <= limit then
      return write(key, user, place, state)
    end
    user.text = sub(text, 1, place - 1) .. state .. sub(text, place + 20)
  else
    local added = '\n' .. resource .. '\t' .. state
    size = size + 1
    if #text >= LARGE and size <= limit and not user.is_changed then
      call('SETRANGE', key, 17, format('%05d', size))
      call('APPEND', key, added)
      call('EXPIRE', key, time_to_live)
      users[key], texts[key] = nil, true
      return
    end
    user.text = sub(text, 1, 17) .. format('%05d', size) .. sub(text, HEADER + 1) .. added
  end
  user.is_changed = true
  if size > limit then
    trim(user)
  end
end

-- Applies an event. Returns whether it changed the pair, a newer version, and what the count entry has to count: the base
-- of an event in flight, - if that is unknown, or nothing.
local function apply_to_user(key, resource, state)
  local user = user_of(key, true)
  local place, held, progress = pair(user, resource)
  if progress == 'r' then
    progress = '?'
  end
  if progress ~= '?' then
    if state == held then
      return '', '', progress == 's' and '' or progress
    end
    if newer(held, state) then
      return '0', sub(held, 1, 18), ''
    end
  end
  local base = progress
  if progress == 's' then
    base = sub(held, 19)
  elseif progress == '?' then
    base = '-'
  end
  put(key, user, place, resource, state .. base)
  if place then
    -- An entry lives longer than its events are in flight.
    call('EXPIRE', key, time_to_live)
  end
  local changed = ''
  if progress ~= '?' then
    changed = sub(held, 19) ~= sub(state, 19) and '1' or '0'
  end
  return changed, '', base
end

local function settle_user(key, resource, state)
  local user = user_of(key)
  if not user then
    return
  end
  local place, held, progress = pair(user, resource)
  if progress == 's' then
    if newer(state, held) then
      put(key, user, place, resource, state .. 's')
    end
  elseif progress == '?' then
    write(key, user, 1, new_life())
  elseif progress == 'r' then
    write(key, user, place, NEVER .. '?')
    write(key, user, 1, new_life())
  elseif not newer(held, state) then
    put(key, user, place, resource, state .. 's')
  elseif progress ~= sub(state, 19) then
    -- An earlier event of the pair may have been committed, and a revert would restore the state before it.
    write(key, user, place + 19, '-')
    write(key, user, 1, new_life())
  end
end

-- Merges `size` rows of the database, which are in ARGV from `first` on: resource, state.
local function fill_user(key, life, filled, first, size)
  local user = user_of(key)
  if not user or sub(user.text, 1, 16) ~= life then
    return '0'
  end
  local added = {}
  for n = first, first + (size - 1) * 2, 2 do
    local resource, state = ARGV[n], ARGV[n + 1]
    local _, stop = find(user.text, '\n' .. resource .. '\t', HEADER + 1, true)
    if not stop then
      added[#added + 1] = '\n' .. resource .. '\t' .. state .. 's'
    else
      local held, progress = sub(user.text, stop + 1, stop + 19), sub(user.text, stop + 20, stop + 20)
      local merged = state .. 's'
      if progress ~= '?' and progress ~= 'r' and newer(held, state) then
        merged = held .. (progress == 's' and 's' or sub(state, 19))
      end
      user.text = sub(user.text, 1, stop) .. merged .. sub(user.text, stop + 21)
    end
  end
  local covered, held = coverage(user), sub(user.text, HEADER + 1)
  if filled == 'c' then
    -- The database has no row of the pairs that are still unknown.
    covered = 'c'
    held = string.gsub(held, '\t(%d+)([%-?r])', function(state, progress)
      if progress == '-' and state ~= NEVER then
        return '\t' .. state .. '0'
      end
      return '\t' .. NEVER .. 's'
    end)
  elseif covered == 'u' then
    covered = filled
  end
  local pairs_held = tonumber(sub(user.text, 18, 22)) + #added
  user.text = life .. covered .. format('%05d', pairs_held) .. held .. table.concat(added)
  user.is_changed = true
  trim(user)
  return '1'
end

local function forget_in_user(key, resource, version)
  local user = user_of(key)
  if not user then
    return
  end
  local place, held, progress = pair(user, resource)
  if not place or sub(held, 1, 18) ~= version then
    return
  end
  if progress == '0' or progress == '1' then
    put(key, user, place, resource, sub(NEVER, 1, 18) .. progress .. 'r')
  elseif progress == '-' then
    put(key, user, place, resource, NEVER .. '?')
  end
end

-- Count entries -----------------------------------------------------------------------------------------------------

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

-- Verbs -------------------------------------------------------------------------------------------------------------

local answers = {}

local function answer(text)
  answers[#answers + 1] = text
end

-- Applies an event to both entries of its pair. The answer: whether it changed the pair, a newer version, the count, and if
-- one of these needs a fill, what `open` answers about both entries.
local function apply(user_key, key, state)
  local changed, newer_version, base = apply_to_user(user_key, name(key), state)
  local count = ''
  if base ~= '-' then
    local held = count_of(key)
    if base ~= '' and held and not held.life then
      join(key, held, name(user_key), state, base)
    end
    count = shown(held)
  end
  local text = changed .. ':' .. newer_version .. ':' .. count
  if newer_version == '' and (changed == '' or count == '') then
    text = text .. ':' .. sub(user_of(user_key).text, 1, 17) .. ':' .. open_count(key)
  end
  answer(text)
end

if verb == 'apply' then
  -- KEYS: for each event the user entry and the count entry. ARGV: for each event the state.
  for n = 1, #KEYS, 2 do
    apply(KEYS[n], KEYS[n + 1], ARGV[5 + (n + 1) / 2])
  end
elseif verb == 'settle' then
  -- KEYS: for each count the count entry and the user entries. ARGV: for each count the count, its revision, the number of
  -- states, and these.
  local n, at = 1, 6
  while n <= #KEYS do
    local key, size = KEYS[n], tonumber(ARGV[at + 2])
    local resource, wanted, states = name(key), {}, {}
    for k = 1, size do
      settle_user(KEYS[n + k], resource, ARGV[at + 2 + k])
      wanted[k], states[k] = name(KEYS[n + k]), ARGV[at + 2 + k]
    end
    settle_count(key, ARGV[at], ARGV[at + 1], wanted, states)
    n, at = n + 1 + size, at + 3 + size
  end
elseif verb == 'forget' then
  -- KEYS: as of apply. ARGV: for each event the version.
  for n = 1, #KEYS, 2 do
    local version = ARGV[5 + (n + 1) / 2]
    forget_in_user(KEYS[n], name(KEYS[n + 1]), version)
    forget_in_count(KEYS[n + 1], name(KEYS[n]), version)
  end
elseif verb == 'open' then
  -- KEYS: user entries, then count entries. ARGV: the number of user entries.
  for n, key in ipairs(KEYS) do
    if n <= tonumber(ARGV[6]) then
      answer(sub(user_of(key, true).text, 1, 17))
    else
      answer(open_count(key))
    end
  end
elseif verb == 'fill' then
  -- KEYS: the user entries to fill, the count entries to fill, and other entries of the events. ARGV: the numbers of the
  -- first two; for each user the life, the coverage, the number of rows, and these; for each count the life, the count and
  -- its revision; and then for each event that waited the places of both keys, and the state.
  local users_filled, counts_filled, at = tonumber(ARGV[6]), tonumber(ARGV[7]), 8
  local refused = {}
  for n = 1, users_filled + counts_filled do
    local key, taken = KEYS[n], nil
    if n <= users_filled then
      local size = tonumber(ARGV[at + 2])
      taken = fill_user(key, ARGV[at], ARGV[at + 1], at + 3, size)
      at = at + 3 + size * 2
    else
      taken = fill_count(key, ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]))
      at = at + 3
    end
    refused[key] = taken == '0'
    answer(taken)
  end
  for n = at, #ARGV, 3 do
    local user_key, key = KEYS[tonumber(ARGV[n])], KEYS[tonumber(ARGV[n + 1])]
    if refused[user_key] or refused[key] then
      answer('')
    else
      apply(user_key, key, ARGV[n + 2])
    end
  end
elseif verb == 'overdue' then
  -- KEYS: a count entry. ARGV: the version before which events are overdue, and how many to return.
  local key = KEYS[1]
  local held, before, most = count_of(key), tonumber(ARGV[6]), tonumber(ARGV[7])
  if held and not held.life and held.size > 0 then
    if not held.events and call('ZCARD', set_of(key)) ~= held.size then
      -- Redis has evicted the events without the count. The count is unknown until it is filled.
      counts[key] = { life = new_life(), is_changed = true }
    else
      find_oldest(key, held)
      held.is_changed = true
      if held.events then
        local old = {}
        for version, event_name in each_event(held.events) do
          if tonumber(version) < before then
            old[#old + 1] = { name = event_name, version = version }
          end
        end
        table.sort(old, function(one, other)
          return one.version < other.version
        end)
        for n = 1, math.min(most, #old) do
          answer(old[n].name)
          answer(old[n].version)
        end
      else
        local old = call('ZRANGEBYSCORE', set_of(key), '-inf', '(' .. ARGV[6], 'WITHSCORES', 'LIMIT', 0, ARGV[7])
        for _, text in ipairs(old) do
          answer(text)
        end
      end
    end
  end
elseif verb == 'apply_to_user' then
  -- KEYS: a user entry. ARGV: for each event the resource and the state.
  -- Answers as apply, with the base in place of the count, and what open answers.
  for at = 6, #ARGV, 2 do
    local before = user_of(KEYS[1], true)
    local changed, newer_version, base = apply_to_user(KEYS[1], ARGV[at], ARGV[at + 1])
    -- An entry that was written in parts keeps its lifetime.
    local user = users[KEYS[1]] or before
    answer(changed .. ':' .. newer_version .. ':' .. base .. ':' .. sub(user.text, 1, 17))
  end
elseif verb == 'join_count' then
  -- KEYS: a count entry. ARGV: for each event the user, the state, the base that the user entry has told, and whether to
  -- open the count: 1, or ? if it is unknown, or 0. Answers the count, and what open answers.
  for at = 6, #ARGV, 4 do
    local held, base, opens, count = count_of(KEYS[1]), ARGV[at + 2], ARGV[at + 3], ''
    if base ~= '-' then
      if base ~= '' and held and not held.life then
        join(KEYS[1], held, ARGV[at], ARGV[at + 1], base)
      end
      count = shown(held) .. ''
    end
    if opens == '1' or (opens == '?' and count == '') then
      count = count .. ':' .. open_count(KEYS[1])
    end
    answer(count)
  end
elseif verb == 'settled' then
  -- KEYS: a user entry. ARGV: as of apply_to_user. Answers the state of each pair that is settled and no older.
  local user = user_of(KEYS[1])
  for at = 6, #ARGV, 2 do
    local _, held, progress = nil, NEVER, '?'
    if user then
      _, held, progress = pair(user, ARGV[at])
    end
    answer(progress == 's' and not newer(ARGV[at + 1], held) and held or '')
  end
elseif verb == 'settle_user' then
  -- KEYS: a user entry. ARGV: as of apply_to_user.
  for at = 6, #ARGV, 2 do
    settle_user(KEYS[1], ARGV[at], ARGV[at + 1])
  end
elseif verb == 'settle_count' then
  -- KEYS: a count entry. ARGV: the count and its revision, and for each pair the user and the state.
  local wanted, states = {}, {}
  for at = 8, #ARGV, 2 do
    wanted[#wanted + 1], states[#states + 1] = ARGV[at], ARGV[at + 1]
  end
  settle_count(KEYS[1], ARGV[6], ARGV[7], wanted, states)
elseif verb == 'leave_count' then
  -- KEYS: a count entry. ARGV: for each pair the user and the state that its user entry holds as settled.
  for at = 6, #ARGV, 2 do
    settle_count(KEYS[1], '', '', { ARGV[at] }, { ARGV[at + 1] })
  end
elseif verb == 'forget_in_user' then
  -- KEYS: a user entry. ARGV: for each event the resource and the version.
  for at = 6, #ARGV, 2 do
    forget_in_user(KEYS[1], ARGV[at], ARGV[at + 1])
  end
elseif verb == 'forget_in_count' then
  -- KEYS: a count entry. ARGV: for each event the user and the version.
  for at = 6, #ARGV, 2 do
    forget_in_count(KEYS[1], ARGV[at], ARGV[at + 1])
  end
elseif verb == 'show' then
  -- KEYS: a count entry. Answers the entry and its sorted set.
  return { texts[KEYS[1]], call('ZRANGE', set_of(KEYS[1]), 0, -1, 'WITHSCORES') }
else
  return redis.error_reply('ERR unknown verb')
end

for key, user in pairs(users) do
  if user.is_changed then
    store(key, user.text, user.is_new)
  end
end
for key, held in pairs(counts) do
  if held.is_changed then
    store_count(key, held)
  end
end
return answers
