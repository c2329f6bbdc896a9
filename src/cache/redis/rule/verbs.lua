-- Verbs: each works on the entries of KEYS, and what changed is stored at the end.

local answers = {}

local function answer(text)
  answers[#answers + 1] = text
end

-- Applies an event to both entries of its pair. The answer: whether it changed the pair, a newer version, the count, and if
-- one of these needs a fill, what `open` answers about both entries.
local function apply(user_key, key, state)
  local changed, newer_version, base, user_opened = apply_to_user(user_key, name(key), state)
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
    text = text .. ':' .. user_opened .. ':' .. open_count(key)
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
  local n, at, wanted, states = 1, 6, {}, {}
  while n <= #KEYS do
    local key, size = KEYS[n], tonumber(ARGV[at + 2])
    local resource = name(key)
    for k = 1, size do
      settle_user(KEYS[n + k], resource, ARGV[at + 2 + k])
      wanted[k], states[k] = name(KEYS[n + k]), ARGV[at + 2 + k]
    end
    settle_count(key, ARGV[at], ARGV[at + 1], size, wanted, states)
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
      answer(opened(user_of(key, true)))
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
      taken = fill_count(key, ARGV[at], ARGV[at + 1], ARGV[at + 2])
      at = at + 3
    end
    if taken == '0' then
      refused[key] = true
    end
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
    local changed, newer_version, base, user_opened = apply_to_user(KEYS[1], ARGV[at], ARGV[at + 1])
    answer(changed .. ':' .. newer_version .. ':' .. base .. ':' .. user_opened)
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
      count = shown(held)
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
elseif verb == 'settle_users' then
  -- KEYS: user entries. ARGV: a resource, and for each user the state of its pair.
  for n, key in ipairs(KEYS) do
    settle_user(key, ARGV[6], ARGV[6 + n])
  end
elseif verb == 'settle_count' then
  -- KEYS: a count entry. ARGV: the count and its revision, and for each pair the user and the state.
  local wanted, states = {}, {}
  for at = 8, #ARGV, 2 do
    wanted[#wanted + 1], states[#states + 1] = ARGV[at], ARGV[at + 1]
  end
  settle_count(KEYS[1], ARGV[6], ARGV[7], #wanted, wanted, states)
elseif verb == 'leave_count' then
  -- KEYS: a count entry. ARGV: for each pair the user and the state that its user entry holds as settled.
  for at = 6, #ARGV, 2 do
    settle_count(KEYS[1], '', '', 1, { ARGV[at] }, { ARGV[at + 1] })
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
