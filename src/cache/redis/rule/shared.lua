-- The newest-wins rule on many entries at once: the twin of `UserEntry` and `CountEntry` in src/domain/, which say why.
-- One call runs one verb on many pairs. It loads all entries in one command, and stores each changed entry once.
--
-- The script is the files of this folder in the order shared, user_entry, count_entry, verbs, which redis/call.rs joins. A
-- file uses the locals of the files before it, so a linter checks the joined text (`cat` in that order), and Redis counts
-- the lines of its errors from the top of this file.
--
-- KEYS: user entries and count entries; the text between the braces names the user or the resource. The sorted set of a
-- count entry is in the same slot. In a cluster, KEYS is one entry, and a pair takes two calls.
-- ARGV: the verb, the time to live in seconds, the most pairs of a user entry (5 digits), the database's time in
-- microseconds (18 digits), a name for new lifetimes (16 digits), and then what the verb needs. A state is 18 digits and
-- liked.
--
-- Numbers stay text where they can, because a conversion costs more than most of what is done with them: digits of one
-- length compare as text.

local verb, time_to_live, limit, now, next_life = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
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
-- Whether the verb renews the expiry of the entries that it changes.
local RENEWS = verb == 'apply' or verb == 'apply_to_user' or verb == 'join_count'
-- The length of an event in the count entry, without its user.
local EVENT = 21
-- The place of the user or the resource in a key.
local NAME = KEYS[1] and find(KEYS[1], '{', 1, true) + 1

-- Numbers as text: most entries of a call have the same few.
local digits = {}

local function text_of(number)
  local text = digits[number]
  if not text then
    text = number .. ''
    digits[number] = text
  end
  return text
end

-- The name of an entry's next lifetime, which differs from those before. Different entries may share it.
local function new_life(before)
  if before == next_life then
    next_life = format('%016.0f', next_life + 1)
  end
  return next_life
end

-- Whether a state is newer than another. Between equal versions the unlike is newer.
local function newer(state, than)
  if state == than then
    return false
  end
  local version, than_version = sub(state, 1, 18), sub(than, 1, 18)
  return version > than_version or (version == than_version and state < than)
end

local function name(key)
  return sub(key, NAME, -2)
end

-- Stores an entry. A new one has no expiry to keep.
local function store(key, text, is_new)
  if is_new or RENEWS then
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
