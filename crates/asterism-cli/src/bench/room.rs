//! How long answers must be so that all of them decode beside each other for so many steps.

/// The least tokens that pass through a layer of a question together.
const LEAST_CHUNK: usize = 512;

/// The most tokens that the answer to one of `sequences` questions of `query` tokens takes to run
/// `steps` decoding steps beside all the others, in a model of `layers` layers: the first token
/// comes out of the question, one more out of every step, and after every slice of another's
/// question, which is a layer of it at least, comes a step of those that decode already.
pub(super) fn answer_tokens(sequences: usize, query: usize, steps: usize, layers: usize) -> usize {
    let slices = layers.saturating_mul(query.div_ceil(LEAST_CHUNK)) + 1;
    (sequences - 1).saturating_mul(slices).saturating_add(1 + steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_room_for_the_steps_before_the_last_begins() {
        assert_eq!(answer_tokens(1, 200, 64, 8), 65);
        assert_eq!(answer_tokens(3, 513, 64, 8), 65 + 2 * 17);
    }
}
