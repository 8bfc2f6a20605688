// Which rows of a launch of attention belong together, and where their partial results lie.

struct Sequence {
    i64 first_part_row; // in the results of parts: of this sequence [parts, tokens, heads]
    const u32* positions; // [tokens], ascending; null: consecutive ones
    int first_token;    // of the queries
    int tokens;
    int start; // position of the first token
    int first_segment, segments; // of its keys, in the table
    int parts;                   // that its keys are split into
    int first_tile;              // row tiles of the sequences before
    int first_split_row;         // rows (token, head) of the sequences before that are split
};

// Where token `token` of a sequence stands, or its last one if it has fewer; `longer` as in
// `Grown`.
__device__ __forceinline__ int position_of(const Sequence& sequence, int token, int longer) {
    token = min(token, sequence.tokens - 1);
    return sequence.positions ? (int)sequence.positions[token] : sequence.start + longer + token;
}

// The last sequence for which `first_of` is at most `index`.
template <typename First>
__device__ __forceinline__ int sequence_of(const Sequence* sequences, int count, int index,
                                           First first_of) {
    int low = 0, high = count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (first_of(sequences[middle]) <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}
