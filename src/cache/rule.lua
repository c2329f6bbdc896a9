-- The newest-wins rule on one resource's entry: the twin of `Entry` in src/domain/entry.rs, which says why.
--
-- KEYS[1]  the entry, a hash:
--            i  the name of this life of the entry (its incarnation)
--            n  the database's count, as "like_count:revision"
--            c  present if every pair that the database holds is here
--            f  likes on their way to the database, less unlikes
--            u  how many pairs have no settled state
--            and for each pair the user id, after a '=' if it is text: "version:liked" if it is settled,
--            "version:liked:settled_version:settled_liked" while an event is on its way,
--            "version:liked:-" while nobody has looked into the database
-- ARGV     the verb, a name for a new life, the entry's time to live in seconds, the most pairs it may
--          hold, and then what the verb needs
--
-- Versions are below 2^53, so that Lua compares them exactly; they are stored as they were given,
-- because Lua would print them with an exponent.

local key, verb, new_life = KEYS[1], ARGV[1], ARGV[2]
local time_to_live, limit = ARGV[3], tonumber(ARGV[4])

-- One read for all: the head, and the pairs that the verb names.
local first_user = ({ apply = 5, settle = 6, fill = 7, forget = 5 })[verb]
local per_user = ({ apply = 3, settle = 3, fill = 3, forget = 2 })[verb]
local wanted = { 'i', 'n', 'c', 'f', 'u' }
if first_user then
  for n = first_user, #ARGV, per_user do
    wanted[#wanted + 1] = ARGV[n]
  end
end
local head = redis.call('HMGET', key, unpack(wanted))
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

-- The pair of a user, from its text; nil if the entry does not hold it.
local function parse(text)
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

-- What is written back at the end, in one call: field, value, field, value ...
local fields = {}

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
  fields[#fields + 1], fields[#fields + 2] = user, text
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
-- Not too many at a time: Lua passes some thousand values at once, and a limit that was lowered leaves more.
local function trim()
  local surplus = redis.call('HLEN', key) - 5 - limit
  if surplus <= 0 then
    return
  end
  local sample = redis.call('HRANDFIELD', key, math.min(surplus + 64, 2000), 'WITHVALUES')
  local dropped = {}
  for n = 1, #sample, 2 do
    if string.match(sample[n], '^[%d=]') and string.match(sample[n + 1], '^%d+:%d$') then
      dropped[#dropped + 1] = sample[n]
    end
  end
  if #dropped > 0 then
    redis.call('HDEL', key, unpack(dropped))
    redis.call('HDEL', key, 'c')
    redis.call('HSET', key, 'i', new_life)
  end
end

-- Writes back what has changed. An entry that is only read from and applied to still expires: what
-- arrives in the database is settled here, which prolongs its life.
local function save(prolong)
  fields[#fields + 1], fields[#fields + 2] = 'f', in_flight
  fields[#fields + 1], fields[#fields + 2] = 'u', unknown
  if life ~= head[1] then
    fields[#fields + 1], fields[#fields + 2] = 'i', life
  end
  if count ~= head[2] then
    fields[#fields + 1], fields[#fields + 2] = 'n', count
  end
  if complete ~= head[3] then
    fields[#fields + 1], fields[#fields + 2] = 'c', complete
  end
  redis.call('HSET', key, unpack(fields))
  if prolong or not exists then
    redis.call('EXPIRE', key, time_to_live)
  end
  trim()
end

if verb == 'open' then
  if not exists then
    life = new_life
    save(true)
  end
  return life
end

if verb == 'apply' then
  local user, version, liked = ARGV[5], ARGV[6], ARGV[7]
  life = life or new_life
  local before = parse(head[6])
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
  save(false)
  return { changed, newer_version, like_count() }
end

if verb == 'settle' then
  local new_count = ARGV[5]
  for n = 6, #ARGV, 3 do
    local user, version, liked = ARGV[n], ARGV[n + 1], ARGV[n + 2]
    local held = parse(head[6 + (n - 6) / 3])
    if held and (held.settled_version or complete or not newer(held.version, held.liked, version, liked)) then
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
  save(true)
  return 1
end

if verb == 'fill' then
  local seen_life, new_count, user, version, liked = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
  if not exists or seen_life ~= life then
    return { '0', '', '' }
  end
  -- Without a user, only the count is filled.
  local filled
  if user then
    local held = parse(head[6])
    filled = held and taking(held, version, liked) or settled(version, liked)
    put(user, held, filled)
  end
  if not count and new_count == '0:0' then
    complete = '1'
  end
  if not count or revision(new_count) > revision(count) then
    count = new_count
  end
  save(true)
  return { '1', filled and filled.liked or '', like_count() }
end

if verb == 'forget' then
  local user, version = ARGV[5], ARGV[6]
  local held = parse(head[6])
  if held and held.version == version then
    if held.settled_version then
      put(user, held, settled(held.settled_version, held.settled_liked))
    else
      leave(held)
      redis.call('HDEL', key, user)
    end
    save(false)
  end
  return 1
end

return redis.error_reply('ERR unknown verb')
