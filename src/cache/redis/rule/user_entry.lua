-- User entries: the twin of `UserEntry` in src/domain/user_entry.rs.
--
-- A user entry is a string:
--   16 digits  the name of this lifetime of the entry (its incarnation)
--   1 letter   its coverage: u (unfilled), p (partial) or c (complete)
--   5 digits   the number of its pairs
--   and for each pair a newline, the resource, a tab, and 20 characters: the version (18 digits), liked (1 or 0), and
--   s if the database is known to hold it, the base (1, 0, or - if it is unknown) while it is in flight, r after a revert,
--   or ? if only the database knows the state

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
      user = { text = text, is_changed = false }
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

-- What `open` answers about an entry: its lifetime and its coverage.
local function opened(user)
  return sub(user.text, 1, 17)
end

-- Overwrites a part of an entry that was not changed before. Replicas receive the part only.
local function write(key, user, place, text)
  if user.is_changed then
    user.text = sub(user.text, 1, place - 1) .. text .. sub(user.text, place + #text)
  else
    call('SETRANGE', key, text_of(place - 1), text)
    users[key], texts[key] = nil, true
  end
end

-- Starts a new lifetime.
local function restart(key, user)
  write(key, user, 1, new_life(sub(user.text, 1, 16)))
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

-- Drops the oldest pairs that are not in flight from an entry with too many, down to half of the limit.
local function trim(user)
  local order, droppable = {}, {}
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
  for n = 1, math.min(#order - math.floor(limit / 2), #droppable) do
    droppable[n].dropped = true
  end
  local kept = {}
  for _, held in ipairs(order) do
    if not held.dropped then
      kept[#kept + 1] = '\n' .. held.resource .. '\t' .. held.state
    end
  end
  local left = coverage(user) == 'c' and 'p' or coverage(user)
  user.text = new_life(sub(user.text, 1, 16)) .. left .. format('%05d', #kept) .. table.concat(kept)
end

-- For numbers of pairs the next ones, both as 5 digits.
local next_sizes = {}

local function next_size(size)
  local more = next_sizes[size]
  if not more then
    more = format('%05d', size + 1)
    next_sizes[size] = more
  end
  return more
end

-- Sets a pair at its place, or adds it.
local function put(key, user, place, resource, state, progress)
  local text = user.text
  local size = sub(text, 18, 22)
  if place then
    if size <= limit then
      return write(key, user, place, state .. progress)
    end
    user.text = sub(text, 1, place - 1) .. state .. progress .. sub(text, place + 20)
  else
    size = next_size(size)
    if #text >= LARGE and size <= limit and not user.is_changed then
      call('SETRANGE', key, '17', size)
      call('APPEND', key, '\n' .. resource .. '\t' .. state .. progress)
      call('EXPIRE', key, time_to_live)
      users[key], texts[key] = nil, true
      return
    end
    user.text = sub(text, 1, 17) .. size .. sub(text, HEADER + 1) .. '\n' .. resource .. '\t' .. state .. progress
  end
  user.is_changed = true
  if size > limit then
    trim(user)
  end
end

-- Applies an event. Returns whether it changed the pair, a newer version, what the count entry has to count (the base of an
-- event in flight, - if that is unknown, or nothing), and what `open` answers about the entry.
local function apply_to_user(key, resource, state)
  local user = user_of(key, true)
  local place, held, progress = pair(user, resource)
  if progress == 'r' then
    progress = '?'
  end
  if progress ~= '?' then
    if state == held then
      return '', '', progress == 's' and '' or progress, opened(user)
    end
    if newer(held, state) then
      return '0', sub(held, 1, 18), '', opened(user)
    end
  end
  local base = progress
  if progress == 's' then
    base = sub(held, 19)
  elseif progress == '?' then
    base = '-'
  end
  put(key, user, place, resource, state, base)
  if place then
    -- An entry lives longer than its events are in flight.
    call('EXPIRE', key, time_to_live)
  end
  local changed = ''
  if progress ~= '?' then
    changed = sub(held, 19) ~= sub(state, 19) and '1' or '0'
  end
  return changed, '', base, opened(user)
end

local function settle_user(key, resource, state)
  local user = user_of(key)
  if not user then
    return
  end
  local place, held, progress = pair(user, resource)
  if progress == 's' then
    if newer(state, held) then
      put(key, user, place, resource, state, 's')
    end
  elseif progress == '?' then
    restart(key, user)
  elseif progress == 'r' then
    write(key, user, place, NEVER .. '?')
    restart(key, user)
  elseif not newer(held, state) then
    put(key, user, place, resource, state, 's')
  elseif progress ~= sub(state, 19) then
    -- An earlier event of the pair may have been committed, and a revert would restore the state before it.
    write(key, user, place + 19, '-')
    restart(key, user)
  end
end

-- What an unknown pair becomes if the database has no row of it.
local function without_row(state, progress)
  if progress == '-' and state ~= NEVER then
    return '\t' .. state .. '0'
  end
  return '\t' .. NEVER .. 's'
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
  local covered, pairs_held, held = coverage(user), sub(user.text, 18, 22), sub(user.text, HEADER + 1)
  if filled == 'c' then
    covered = 'c'
    if pairs_held == '00001' and sub(held, -1) == '-' and sub(held, -20, -2) ~= NEVER then
      -- The usual case: the entry holds only the event that asked for the rows.
      held = sub(held, 1, -2) .. '0'
    else
      held = string.gsub(held, '\t(%d+)([%-?r])', without_row)
    end
  elseif covered == 'u' then
    covered = filled
  end
  if #added > 0 then
    pairs_held, held = format('%05d', pairs_held + #added), held .. table.concat(added)
  end
  user.text, user.is_changed = life .. covered .. pairs_held .. held, true
  if pairs_held > limit then
    trim(user)
  end
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
    put(key, user, place, resource, sub(NEVER, 1, 18) .. progress, 'r')
  elseif progress == '-' then
    put(key, user, place, resource, NEVER, '?')
  end
end
