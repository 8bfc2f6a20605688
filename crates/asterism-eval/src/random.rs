//! The random numbers of CPython's `random` and of NumPy's `RandomState`, bit for bit.
//!
//! The benchmarks' generators are Python programs, so their samples are defined by Python's draws:
//! one Mersenne Twister (Matsumoto and Nishimura 1998), seeded two ways, and the rules by which
//! CPython's `Lib/random.py` and NumPy turn its words into integers and choices.

use std::collections::HashSet;

/// Words of the twister's state.
const STATE: usize = 624;
/// Distance of the word that is mixed in.
const SHIFT: usize = 397;

/// MT19937: a stream of 32-bit words.
#[derive(Debug, Clone)]
struct Twister {
    /// Shape `[624]`.
    state: Vec<u32>,
    /// The next word of `state` to hand out.
    next: usize,
}

impl Twister {
    /// Seeded by one word, as NumPy's `RandomState(seed)` is.
    fn by_word(seed: u32) -> Self {
        let mut state = Vec::with_capacity(STATE);
        state.push(seed);
        for i in 1..STATE as u32 {
            let last = state[i as usize - 1];
            state.push((last ^ (last >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i));
        }
        Self { state, next: STATE }
    }

    /// Seeded by an array of words, as CPython's `random.seed(int)` is; `key` is not empty.
    fn by_key(key: &[u32]) -> Self {
        let mut twister = Self::by_word(19_650_218);
        let state = &mut twister.state;
        let (mut i, mut j) = (1, 0);
        for _ in 0..STATE.max(key.len()) {
            let last = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ last.wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            (i, j) = (i + 1, (j + 1) % key.len());
            if i == STATE {
                state[0] = state[STATE - 1];
                i = 1;
            }
        }
        for _ in 1..STATE {
            let last = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ last.wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i == STATE {
                state[0] = state[STATE - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        twister
    }

    /// The next 32 bits.
    fn word(&mut self) -> u32 {
        if self.next == STATE {
            for i in 0..STATE {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + SHIFT) % STATE] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
}

/// CPython's `random.Random`.
#[derive(Debug, Clone)]
pub struct PythonRandom(Twister);

impl PythonRandom {
    /// `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key = [low, high];
        Self(Twister::by_key(if high == 0 { &key[..1] } else { &key }))
    }

    /// `getrandbits(bits)` for 1 to 128 bits.
    pub fn bits(&mut self, bits: u32) -> u128 {
        let mut value = 0;
        for low in (0..bits.min(128)).step_by(32) {
            let wanted = (bits - low).min(32);
            value |= u128::from(self.0.word() >> (32 - wanted)) << low;
        }
        value
    }

    /// A whole number in `0..end`, by rejection; 0 for an empty range.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 {
            return 0;
        }
        let bits = usize::BITS - end.leading_zeros();
        loop {
            let value = self.bits(bits) as usize;
            if value < end {
                return value;
            }
        }
    }

    /// `randint(first, last)`: both ends included.
    pub fn int(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    /// `random()`: 53 bits in `0..1`.
    pub fn unit(&mut self) -> f64 {
        let (high, low) = (self.0.word() >> 5, self.0.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// `choice(items)`; `items` is not empty.
    pub fn choice<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// `''.join(choices(letters, k=count))`: drawn with replacement, by multiplication.
    pub fn letters(&mut self, letters: &[u8], count: usize) -> String {
        let end = letters.len() as f64;
        (0..count).map(|_| char::from(letters[(self.unit() * end) as usize])).collect()
    }

    /// `sample(range(end), count)`: distinct numbers in the order drawn; all of them, shuffled,
    /// when `count` is `end` or more.
    pub fn sample(&mut self, end: usize, count: usize) -> Vec<usize> {
        let count = count.min(end);
        // Up to which population a list is smaller than a set: Lib/random.py's rule.
        let mut list_up_to = 21;
        if count > 5 {
            list_up_to += 4_usize.pow((count as f64 * 3.0).log(4.0).ceil() as u32);
        }
        if end <= list_up_to {
            let mut pool: Vec<usize> = (0..end).collect();
            let draw = |i| {
                let at = self.below(end - i);
                let drawn = pool[at];
                pool[at] = pool[end - i - 1];
                drawn
            };
            return (0..count).map(draw).collect();
        }
        let mut seen = HashSet::with_capacity(count);
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            let value = self.below(end);
            if seen.insert(value) {
                drawn.push(value);
            }
        }
        drawn
    }

    /// `shuffle(items)`, in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }

    /// `str(uuid.UUID(int=getrandbits(128), version=4))`.
    pub fn uuid(&mut self) -> String {
        let mut bits = self.bits(128);
        bits = (bits & !(0xc000 << 48)) | (0x8000 << 48);
        bits = (bits & !(0xf000 << 64)) | (0x4000 << 64);
        let hex = format!("{bits:032x}");
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        parts.join("-")
    }
}

/// NumPy's legacy `RandomState`.
#[derive(Debug, Clone)]
pub struct NumpyRandom(Twister);

impl NumpyRandom {
    /// `np.random.seed(seed)`.
    pub fn new(seed: u32) -> Self {
        Self(Twister::by_word(seed))
    }

    /// `randint(first, end)`: `end` left out, by masked rejection; `first` for an empty range.
    pub fn int(&mut self, first: u32, end: u32) -> u32 {
        let Some(most @ 1..) = end.checked_sub(first + 1) else { return first };
        let mask = u32::MAX >> most.leading_zeros();
        loop {
            let value = self.0.word() & mask;
            if value <= most {
                return first + value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every expected value below is what CPython 3 and NumPy print for the same calls.
    #[test]
    fn draws_what_cpython_draws() {
        let mut random = PythonRandom::new(42);
        assert_eq!(random.unit(), 0.6394267984578837);
        assert_eq!(random.int(1_000_000, 9_999_999), 1419610);
        assert_eq!(random.bits(128), 0x392456de3eb13b9046685257bdd640fb);
        assert_eq!(*random.choice(&[10, 20, 30, 40, 50, 60, 70]), 20);
        assert_eq!(random.letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 8), "TRXCKAFN");
        assert_eq!(random.sample(30, 5), [0, 17, 6, 22, 20]);
        assert_eq!(random.sample(12, 5), [11, 8, 6, 3, 7]);
        assert_eq!(
            random.sample(100, 20),
            [75, 35, 0, 97, 20, 89, 54, 43, 19, 27, 13, 11, 48, 12, 45, 44, 77, 33, 5, 93]
        );
        let mut items: Vec<usize> = (0..10).collect();
        random.shuffle(&mut items);
        assert_eq!(items, [5, 9, 6, 2, 4, 0, 3, 1, 8, 7]);
        assert_eq!(random.uuid(), "11ce5dd2-b45e-41f0-b139-d32c93cd59bf");
        assert_eq!(PythonRandom::new(1 << 40).unit(), 0.1036394562812375);
    }

    #[test]
    fn draws_what_numpy_draws() {
        let mut random = NumpyRandom::new(42);
        let drawn: Vec<u32> = (0..8).map(|_| random.int(10_000, 99_999)).collect();
        assert_eq!(drawn, [25795, 10860, 86820, 64886, 16265, 92386, 47194, 97498]);
        assert_eq!(random.int(7, 8), 7);
    }

    #[test]
    fn a_sample_never_repeats() {
        for (end, count) in [(0, 0), (1, 1), (5, 9), (22, 3), (1000, 400)] {
            let drawn = PythonRandom::new(7).sample(end, count);
            let distinct: HashSet<_> = drawn.iter().collect();
            assert_eq!((drawn.len(), distinct.len()), (count.min(end), count.min(end)));
            assert!(drawn.iter().all(|&value| value < end));
        }
    }
}
