//! Call stacks by number: what a plugin gets in place of addresses, so that equal stacks are equal numbers.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Distinct stacks of a plugin. Past that, and past so many frames in all, new ones are all the number 0.
pub const MAX_STACKS: usize = 65_536;

/// Addresses of all distinct stacks together: 32 MiB.
const MAX_FRAMES: usize = 4 << 20;

/// A stack as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack<'a> {
    /// The process whose addresses they are; 0 for the kernel's.
    pub pid: u32,
    /// The innermost first.
    pub addresses: &'a [u64],
}

/// The stacks that one plugin has numbers for, from 1 on. The number 0 is that of no stack.
#[derive(Debug, Default)]
pub struct Stacks {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    all: Vec<Entry>,
    /// The addresses of one stack behind those of the other.
    addresses: Vec<u64>,
    refused: u64,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    pid: u32,
    start: u32,
    length: u32,
}

impl Stacks {
    /// The number of a stack, a new one for a new stack; 0 where there is no room for another.
    pub fn number(&mut self, pid: u32, addresses: &[u64]) -> u64 {
        let hash = self.hasher.hash_one((pid, addresses));
        let (all, known) = (&self.all, &self.addresses);
        let same = |number: &u32| {
            all.get(*number as usize).is_some_and(|entry| entry.hash == hash && entry.stack(known) == Stack { pid, addresses })
        };
        if let Some(number) = self.table.find(hash, same) {
            return u64::from(*number) + 1;
        }
        if self.all.len() == MAX_STACKS || self.addresses.len() + addresses.len() > MAX_FRAMES {
            self.refused += 1;
            return 0;
        }
        let number = self.all.len() as u32;
        self.all.push(Entry { hash, pid, start: self.addresses.len() as u32, length: addresses.len() as u32 });
        self.addresses.extend_from_slice(addresses);
        let all = &self.all;
        self.table.insert_unique(hash, number, |number| all.get(*number as usize).map_or(0, |entry| entry.hash));
        u64::from(number) + 1
    }

    /// The stack that has this number.
    pub fn get(&self, number: u64) -> Option<Stack<'_>> {
        let position = usize::try_from(number.checked_sub(1)?).ok()?;
        self.all.get(position).map(|entry| entry.stack(&self.addresses))
    }

    /// How often a stack got no number, since there were too many.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl Entry {
    fn stack<'a>(&self, addresses: &'a [u64]) -> Stack<'a> {
        let (start, length) = (self.start as usize, self.length as usize);
        Stack { pid: self.pid, addresses: addresses.get(start..start + length).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equal stacks have one number, others have others, and each leads back.
    #[test]
    fn numbers() {
        let mut stacks = Stacks::default();
        let given: Vec<u64> = [(1, &[1, 2][..]), (1, &[1]), (2, &[1]), (0, &[]), (1, &[1, 2]), (0, &[])]
            .map(|(pid, addresses)| stacks.number(pid, addresses))
            .into();
        assert_eq!(given, [1, 2, 3, 4, 1, 4]);
        assert_eq!(stacks.get(3), Some(Stack { pid: 2, addresses: &[1] }));
        assert_eq!(stacks.get(4), Some(Stack { pid: 0, addresses: &[] }));
        assert_eq!((stacks.get(0), stacks.get(5), stacks.get(u64::MAX)), (None, None, None));
    }

    /// Past the limits new stacks are the number 0, and those that are known stay known.
    #[test]
    fn bounded() {
        let mut stacks = Stacks::default();
        for number in 0..MAX_STACKS as u64 {
            assert_eq!(stacks.number(1, &[number]), number + 1);
        }
        assert_eq!((stacks.number(1, &[u64::MAX]), stacks.number(1, &[7]), stacks.refused()), (0, 8, 1));
        let mut stacks = Stacks::default();
        let deep = vec![1; MAX_FRAMES - 1];
        assert_eq!([stacks.number(1, &deep), stacks.number(1, &[1, 2]), stacks.number(1, &[1])], [1, 0, 2]);
    }
}
