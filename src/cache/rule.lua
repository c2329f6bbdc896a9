-- The newest-wins rule on one resource's entry: the twin of `Entry` in src/domain/entry.rs, which says why.
--
-- KEYS[1]  the entry, a hash:
--            i  the name of this life of the entry (its incarnation)
--            n  the database's count, as "like_count:revision"
--            c  present if every pair that the database holds is here
--            f  likes on their way to the database, less unlikes
--            u  how many pairs have no settled state
--            and for each pair the user id: "version:liked" if it is settled,
--            "version:liked:settled_version:settled_liked" while an event is on its way,
--            "version:liked:-" while nobody has looked into the database
-- ARGV     the verb, a name for a new life, the entry's time to live in seconds, the most pairs it may
--          hold, and then what the verb needs
--
-- Versions are below 2^53, so that Lua compares them exactly; they are stored as they were given,
-- because Lua would print them with an exponent.

local key, verb, new_life = KEYS[1], ARGV[1], ARGV[2]
local time_to_live, limit = ARGV[3], tonumber(ARGV[4])

local head = redis.call('HMGET', key, 'i', 'n', 'c', 'f', 'u')
local life, count, complete = head[1], head[2], head[3]
local in_flight, unknown = tonumber(head[4] or '0'), tonumber(head[5] or '0')
local exists = life

if not exists and (verb == 'settle' or verb == 'forget') then
  return false
end

local function newer(version, liked, than_version, than_liked)
  local a, b = tonumber(version), tonumber(than_version)
  return a > b or (a == b and liked == '0' and than_liked == '1')
end

local function weight(liked)
  return liked == '1' and 1 or 0
end

local function get(user)
  local text = redis.call('HGET', key, user)
  if not text then
    return nil
  end
  local version, liked, rest = string.match(text, '^(%d+):(%d)(.*)$')
  local held = { version = version, liked = liked }
  if rest == '' then
    held.settled_version, held.settled_liked = version, liked
  elseif rest ~= ':-' then
    held.settled_version, held.settled_liked = string.match(rest, '^:(%d+):(%d)$')
  end
  return held
end

local function adds(held)
  if not held.settled_version then
    return 0
  end
  return weight(held.liked) - weight(held.settled_liked)
end

local function leave(held)
  in_flight = in_flight - adds(held)
  if not held.settled_version then
    unknown = unknown - 1
  end
end

local function put(user, before, held)
  if before then
    leave(before)
  end
  in_flight = in_flight + adds(held)
  local text = held.version .. ':' .. held.liked
  if not held.settled_version then
    unknown = unknown + 1
    text = text .. ':-'
  elseif held.settled_version ~= held.version or held.settled_liked ~= held.liked then
    text = text .. ':' .. held.settled_version .. ':' .. held.settled_liked
  end
  redis.call('HSET', key, user, text)
end

local function settled(version, liked)
  return { version = version, liked = liked, settled_version = version, settled_liked = liked }
end

-- The pair once this state of the database's is taken in.
local function taking(held, version, liked)
  local taken = {
    version = held.version, liked = held.liked,
    settled_version = held.settled_version, settled_liked = held.settled_liked,
  }
  if newer(version, liked, taken.version, taken.liked) then
    taken.version, taken.liked = version, liked
  end
  if not taken.settled_version or newer(version, liked, taken.settled_version, taken.settled_liked) then
    taken.settled_version, taken.settled_liked = version, liked
  end
  return taken
end

local function revision(text)
  return tonumber(string.match(text, ':(%d+)$'))
end

local function like_count()
  if not count or unknown ~= 0 then
    return ''
  end
  return string.format('%d', tonumber(string.match(count, '^(-?%d+):')) + in_flight)
end

-- Drops settled pairs, some at a time, until the entry is within its limit or only pairs in flight are left.
local function trim()
  local surplus = redis.call('HLEN', key) - 5 - limit
  if surplus <= 0 then
    return
  end
  local sample = redis.call('HRANDFIELD', key, surplus + 64, 'WITHVALUES')
  local dropped = {}
  for n = 1, #sample, 2 do
    if string.match(sample[n], '^%d') and string.match(sample[n + 1], '^%d+:%d$') then
      dropped[#dropped + 1] = sample[n]
    end
  end
  if #dropped > 0 then
    redis.call('HDEL', key, unpack(dropped))
    complete, life = false, new_life
  end
end

local function save()
  local fields = { 'i', life, 'f', in_flight, 'u', unknown }
  if count then
    fields[#fields + 1], fields[#fields + 2] = 'n', count
  end
  if complete then
    fields[#fields + 1], fields[#fields + 2] = 'c', '1'
  elseif head[3] then
    redis.call('HDEL', key, 'c')
  end
  redis.call('HSET', key, unpack(fields))
  redis.call('EXPIRE', key, time_to_live)
end

if verb == 'open' then
  if not exists then
    life = new_life
    save()
  end
  return life
end

if verb == 'apply' then
  local user, version, liked = ARGV[5], ARGV[6], ARGV[7]
  life = life or new_life
  local before = get(user)
  local held = before or (complete and settled('0', '0')) or nil
  local changed, newer_version = '', ''
  if not held then
    put(user, nil, { version = version, liked = liked })
  elseif newer(version, liked, held.version, held.liked) then
    changed = held.liked ~= liked and '1' or '0'
    put(user, before, {
      version = version, liked = liked,
      settled_version = held.settled_version, settled_liked = held.settled_liked,
    })
  elseif version ~= held.version or liked ~= held.liked then
    changed, newer_version = '0', held.version
  end
  trim()
  save()
  return { changed, newer_version, like_count() }
end

if verb == 'settle' then
  local new_count = ARGV[5]
  for n = 6, #ARGV, 3 do
    local user, version, liked = ARGV[n], ARGV[n + 1], ARGV[n + 2]
    local held = get(user)
    if held and (held.settled_version or not newer(held.version, held.liked, version, liked)) then
      put(user, held, taking(held, version, liked))
    elseif not held and complete then
      put(user, nil, settled(version, liked))
    else
      life = new_life
    end
  end
  if new_count ~= '' then
    if not count then
      life = new_life
    elseif revision(new_count) > revision(count) then
      count = new_count
    end
  end
  trim()
  save()
  return 1
end

if verb == 'fill' then
  local seen_life, new_count, user, version, liked = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
  if not exists or seen_life ~= life then
    return { '0', '', '' }
  end
  local held = get(user)
  local filled = held and taking(held, version, liked) or settled(version, liked)
  put(user, held, filled)
  if not count and new_count == '0:0' then
    complete = '1'
  end
  if not count or revision(new_count) > revision(count) then
    count = new_count
  end
  trim()
  save()
  return { '1', filled.liked, like_count() }
end

if verb == 'forget' then
  local user, version = ARGV[5], ARGV[6]
  local held = get(user)
  if held and held.version == version then
    if held.settled_version then
      put(user, held, settled(held.settled_version, held.settled_liked))
    else
      leave(held)
      redis.call('HDEL', key, user)
    end
    save()
  end
  return 1
end

return redis.error_reply('ERR unknown verb')
