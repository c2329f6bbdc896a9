//! The slots of a Redis Cluster: which slot a key is in, and which master serves it. `masters.rs` keeps the map up to
//! date.

use std::ops::RangeInclusive;

use redis::Value;

/// The number of slots of every cluster.
pub(super) const SLOTS: u16 = 16_384;

/// A slot, below [`SLOTS`].
pub(super) type Slot = u16;

/// A slot without a master.
const NOBODY: u16 = u16::MAX;

/// The number of keys that are tried to find one in a slot of a master. A master with a single slot needs about
/// [`SLOTS`] of them.
const PROBES: u32 = 400_000;

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Returns the slot of a key: of its hash tag, the text between the first `{` and the next `}`, or of the whole key.
pub(super) fn slot_of(key: &str) -> Slot {
    let tag = key.split_once('{').and_then(|(_, rest)| {
        let (tag, _) = rest.split_once('}')?;
        (!tag.is_empty()).then_some(tag)
    });
    crc16(tag.unwrap_or(key).as_bytes()) % SLOTS
}

/// Returns the CRC-16/XMODEM of some bytes.
fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut crc, mut bit) = ((byte as u16) << 8, 0);
            while bit < 8 {
                crc = (crc << 1) ^ (if crc & 0x8000 == 0 { 0 } else { 0x1021 });
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    bytes.iter().fold(0, |crc, byte| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

/// The masters of a cluster and their slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotMap {
    masters: Vec<Address>,
    /// The number of masters that a server listed. Redirections named the masters after them.
    listed: usize,
    /// For each slot the index of its master, or [`NOBODY`].
    owners: Vec<u16>,
    /// Whether the entries of each slot may be stale: another server serves it than the one that took the writes.
    stale: Vec<bool>,
}

impl Default for SlotMap {
    /// Returns the map before any server has answered.
    fn default() -> Self {
        Self {
            masters: Vec::new(),
            listed: 0,
            owners: vec![NOBODY; usize::from(SLOTS)],
            stale: vec![false; usize::from(SLOTS)],
        }
    }
}

impl SlotMap {
    /// Parses the answer of a server to `CLUSTER SLOTS`. A server that does not know its own host names itself without one.
    pub(super) fn parse(answer: &Value, asked: &Address) -> Option<Self> {
        let Value::Array(ranges) = answer else {
            return None;
        };
        let mut map = Self::default();
        for range in ranges {
            let Value::Array(parts) = range else {
                return None;
            };
            let [
                Value::Int(first),
                Value::Int(last),
                Value::Array(master),
                ..,
            ] = &parts[..]
            else {
                return None;
            };
            let (first, last) = (Slot::try_from(*first).ok()?, Slot::try_from(*last).ok()?);
            if last >= SLOTS {
                return None;
            }
            let [host, Value::Int(port), ..] = &master[..] else {
                return None;
            };
            let host = match host {
                Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
                Value::SimpleString(host) => host.clone(),
                Value::Nil => String::new(),
                _ => return None,
            };
            let host = match host.as_str() {
                // The address of this master is unknown to the server.
                "?" => continue,
                "" => asked.host.clone(),
                _ => host,
            };
            let port = u16::try_from(*port).ok()?;
            let master = map.index_of(Address { host, port });
            for slot in first..=last {
                map.owners[usize::from(slot)] = master;
            }
        }
        map.listed = map.masters.len();
        Some(map)
    }

    fn index_of(&mut self, address: Address) -> u16 {
        let known = self.masters.iter().position(|master| *master == address);
        let index = known.unwrap_or_else(|| {
            self.masters.push(address);
            self.masters.len() - 1
        });
        // Masters have at least one slot each.
        u16::try_from(index).unwrap_or(NOBODY)
    }

    /// Returns the masters.
    pub(super) fn masters(&self) -> &[Address] {
        &self.masters
    }

    /// Returns the index of the master of a slot; `None` if it has none.
    pub(super) fn owner(&self, slot: Slot) -> Option<usize> {
        let owner = self.owners[usize::from(slot)];
        (owner != NOBODY).then_some(usize::from(owner))
    }

    /// Returns whether each slot has the master that it has in another map.
    pub(super) fn has_owners_of(&self, other: &Self) -> bool {
        self.masters == other.masters && self.owners == other.owners
    }

    /// Returns the number of slots without a master.
    pub(super) fn unserved(&self) -> usize {
        self.owners.iter().filter(|owner| **owner == NOBODY).count()
    }

    /// Returns the slots of a master.
    pub(super) fn slots_of(&self, master: usize) -> Vec<Slot> {
        (0..SLOTS)
            .filter(|slot| self.owner(*slot) == Some(master))
            .collect()
    }

    /// Returns the slots of a master as ranges.
    pub(super) fn ranges_of(&self, master: usize) -> Vec<RangeInclusive<Slot>> {
        let mut ranges: Vec<RangeInclusive<Slot>> = Vec::new();
        for slot in self.slots_of(master) {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == slot => *last = *last.start()..=slot,
                _ => ranges.push(slot..=slot),
            }
        }
        ranges
    }

    /// Returns whether the entries of a slot may be stale.
    pub(super) fn is_stale(&self, slot: Slot) -> bool {
        self.stale[usize::from(slot)]
    }

    /// Returns the slots whose entries may be stale.
    pub(super) fn stale_slots(&self) -> Vec<Slot> {
        (0..SLOTS).filter(|slot| self.is_stale(*slot)).collect()
    }

    /// Notes whether the entries of these slots may be stale.
    pub(super) fn set_stale(&mut self, slots: impl IntoIterator<Item = Slot>, stale: bool) {
        for slot in slots {
            self.stale[usize::from(slot)] = stale;
        }
    }

    /// Follows a redirection: another master serves the slot. If no server has listed this master yet, it may be a promoted
    /// replica.
    pub(super) fn follow(&mut self, slot: Slot, address: Address) {
        let master = self.index_of(address);
        self.owners[usize::from(slot)] = master;
        if usize::from(master) >= self.listed {
            self.stale[usize::from(slot)] = true;
        }
    }

    /// Takes over what the map before this one knew to be stale. A server that was no master before may be a promoted
    /// replica, which lacks the last writes. A master that takes slots from another one has received their keys.
    pub(super) fn succeed(&mut self, before: &Self) {
        let known = &before.masters[..before.listed];
        let is_new: Vec<bool> = self
            .masters
            .iter()
            .map(|master| !known.is_empty() && !known.contains(master))
            .collect();
        for slot in 0..SLOTS {
            let is_new = self.owner(slot).is_some_and(|owner| is_new[owner]);
            self.stale[usize::from(slot)] = is_new || before.is_stale(slot);
        }
    }

    /// Returns a key for each master that is in one of its slots.
    pub(super) fn probe_keys(&self, prefix: &str) -> Vec<String> {
        let mut keys = vec![String::new(); self.masters.len()];
        // A master that has lost its last slot needs none.
        let mut missing = (0..self.masters.len())
            .filter(|master| self.owners.contains(&(*master as u16)))
            .count();
        for number in 0..PROBES {
            if missing == 0 {
                break;
            }
            let key = format!("{prefix}{{probe{number}}}");
            if let Some(owner) = self.owner(slot_of(&key))
                && keys[owner].is_empty()
            {
                keys[owner] = key;
                missing -= 1;
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address {
            host: "10.0.0.1".to_owned(),
            port,
        }
    }

    /// The answer to `CLUSTER SLOTS` with these ranges and ports.
    fn answer(ranges: &[(i64, i64, i64)]) -> Value {
        let range = |(first, last, port): &(i64, i64, i64)| {
            let node = |port: i64| {
                Value::Array(vec![
                    Value::BulkString(b"10.0.0.1".to_vec()),
                    Value::Int(port),
                    Value::BulkString(b"id".to_vec()),
                ])
            };
            // A replica follows the master.
            let (master, replica) = (node(*port), node(port + 100));
            Value::Array(vec![Value::Int(*first), Value::Int(*last), master, replica])
        };
        Value::Array(ranges.iter().map(range).collect())
    }

    fn map(ranges: &[(i64, i64, i64)]) -> SlotMap {
        SlotMap::parse(&answer(ranges), &address(1)).expect("a map")
    }

    #[test]
    fn keys_are_in_the_slots_that_redis_names() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in [
            ("foo", 12_182),
            ("likewise:a:c:{foo}", 12_182),
            ("{foo}{bar}", 12_182),
            ("bar", 5_061),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
        ] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
    }

    #[test]
    fn masters_and_ranges_are_read() {
        let map = map(&[(0, 9, 1), (10, 10, 2), (11, 20, 1)]);
        assert_eq!(map.masters(), [address(1), address(2)]);
        assert_eq!(map.ranges_of(0), [0..=9, 11..=20]);
        assert_eq!(map.ranges_of(1), [10..=10]);
        assert_eq!((map.owner(10), map.owner(21)), (Some(1), None));
        assert_eq!(map.unserved(), usize::from(SLOTS) - 21);
        let nameless = Value::Array(vec![Value::Array(vec![
            Value::Int(0),
            Value::Int(5),
            Value::Array(vec![Value::Nil, Value::Int(7)]),
        ])]);
        let map = SlotMap::parse(&nameless, &address(1)).expect("a map");
        assert_eq!(map.masters(), [address(7)]);
        assert!(SlotMap::parse(&Value::Int(1), &address(1)).is_none());
    }

    #[test]
    fn slots_of_a_promoted_replica_are_stale() {
        let before = map(&[(0, 9, 1), (10, 19, 2)]);
        // Slot 5 moved between masters, and a replica was promoted.
        let mut after = map(&[(0, 4, 1), (5, 5, 101), (6, 9, 1), (10, 19, 101)]);
        after.succeed(&before);
        let promoted: Vec<Slot> = [5].into_iter().chain(10..=19).collect();
        assert_eq!(after.stale_slots(), promoted);
        let mut moved = map(&[(0, 4, 1), (5, 19, 2)]);
        moved.succeed(&before);
        assert!(moved.stale_slots().is_empty());
        // They stay stale until they are dropped.
        let mut later = map(&[(0, 9, 1), (10, 19, 101)]);
        later.succeed(&after);
        assert_eq!(later.stale_slots(), promoted);
        later.set_stale(10..=19, false);
        assert_eq!(later.stale_slots(), [5]);
        // The first map is no failover.
        let mut first = map(&[(0, 9, 1)]);
        first.succeed(&SlotMap::default());
        assert!(first.stale_slots().is_empty());
    }

    #[test]
    fn redirection_to_an_unlisted_master_is_stale() {
        let mut redirected = map(&[(0, 9, 1), (10, 19, 2)]);
        redirected.follow(3, address(2));
        assert_eq!(redirected.owner(3), Some(1));
        assert!(!redirected.is_stale(3));
        redirected.follow(4, address(101));
        assert_eq!(redirected.owner(4), Some(2));
        assert!(redirected.is_stale(4));
        // The list that follows marks its other slots too.
        let mut listed = map(&[(0, 9, 101), (10, 19, 2)]);
        listed.succeed(&redirected);
        assert_eq!(listed.stale_slots(), (0..=9).collect::<Vec<_>>());
    }

    #[test]
    fn each_master_has_a_key_to_probe() {
        let map = map(&[(0, 8_000, 1), (8_001, 8_001, 2), (8_002, 16_383, 3)]);
        let keys = map.probe_keys("likewise:");
        for (master, key) in keys.iter().enumerate() {
            assert_eq!(map.owner(slot_of(key)), Some(master), "{key}");
        }
    }
}
