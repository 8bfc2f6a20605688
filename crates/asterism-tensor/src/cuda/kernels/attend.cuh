// What attention kernels share: sequences with keys in segments, and the one rule of what is
// visible: a query at position p sees every key that is not hidden and whose position is at most p.

#ifdef FP8
typedef unsigned char Cached; // e4m3, see fp8.cu
#else
typedef bf16 Cached;
#endif

// Keys and values of tokens at consecutive positions, [tokens, kv_heads, head_dim] each; or, where
// every head has its own choice of them, [rows, head_dim], head after head.
struct Segment {
    const Cached* keys;
    const Cached* values;
    const float* key_scales; // [tokens, kv_heads]; null but for FP8
    const float* value_scales;
    const unsigned char* hidden; // [tokens], not 0 for a key that no query sees; null: none is
    const u32* offsets; // [kv_heads + 1]: the first row of each head; null: heads have all tokens
    const u32* indices; // [rows]: which token a row is of
    int tokens;
    int start; // position of the first token
};

// What one KV head has of a segment. Key k starts at keys + k * heads * HEAD_DIM.
struct Run {
    const Cached* keys;
    const Cached* values;
    const float* key_scales; // of key k at k * heads
    const float* value_scales;
    const unsigned char* hidden; // by token
    const u32* indices; // [tokens]: which token a key is of, ascending; null: key k is of token k
    int tokens;         // keys
    int heads;          // from one key to the next
    int start;          // position of the first token, be its key there or not
    int span;           // tokens that the keys are of some of

    // Whether no query sees a key; of keys that are not there, whatever.
    __device__ __forceinline__ bool is_hidden(int key) const {
        return hidden && key < tokens && hidden[indices ? indices[key] : key];
    }
};

// What a launch is about, as an argument where it is little: any number of sequences and segments
// lie in device memory instead.
struct Few {
    Sequence sequence[1];
    Segment segment[8];
};

// The tables of a launch. Those in device memory are null where `few` holds all.
struct Tables {
    const Sequence* sequences;
    const Segment* segments;

    __device__ __forceinline__ Tables(const Few& few, const Sequence* sequences,
                                      const Segment* segments)
        : sequences(sequences ? sequences : few.sequence),
          segments(segments ? segments : few.segment) {}
};

// The segments of one sequence, as one KV head has them. In a launch that is replayed for a later
// token, the last is longer than it says.
struct Grown {
    const Segment* const given;
    const int count;
    const int longer; // tokens
    const int kv_head, kv_heads;
#ifdef SPARSE
    const List& list; // nothing is replayed

    __device__ __forceinline__ Grown(const Segment* given, int count, const List& list,
                                     int kv_head, int kv_heads)
        : given(given), count(count), longer(0), kv_head(kv_head), kv_heads(kv_heads),
          list(list) {}

    // Finds a tile of MASK_TILE keys: makes `tile` its number in its segment, which is returned.
    __device__ __forceinline__ int find(int& tile) const {
        for (int s = 0; s < count; s++) {
            int tiles = (given[s].tokens + MASK_TILE - 1) / MASK_TILE;
            if (tile < tiles) return s;
            tile -= tiles;
        }
        return count;
    }

    // The key at a slot: its number in its segment, which is returned.
    __device__ __forceinline__ int find_slot(u32 slot, int& key) const {
        int tile = (int)(slot / MASK_TILE), segment = find(tile);
        key = tile * MASK_TILE + (int)(slot % MASK_TILE);
        return segment;
    }

    // Whether no row of a tile, the first of which stands at `first`, sees single key `column`.
    __device__ __forceinline__ bool hides(int column, int first) const {
        if (column >= list.single) return true;
        u32 slot = list.columns[column];
        int key, segment = find_slot(slot, key);
        return segment >= count || key >= given[segment].tokens ||
               given[segment].start + key > first || list.has(slot / MASK_TILE);
    }
#else

    // A null `advance` is 0.
    __device__ __forceinline__ Grown(const Segment* given, int count, const u32* advance,
                                     int kv_head, int kv_heads)
        : given(given), count(count), longer(advance ? (int)*advance : 0), kv_head(kv_head),
          kv_heads(kv_heads) {}
#endif

    __device__ __forceinline__ Run operator[](int s) const {
        const Segment& of = given[s];
        Run run;
        i64 row = kv_head; // where the head's first key is, in heads
        run.heads = kv_heads;
        run.start = of.start;
        run.hidden = of.hidden;
        run.indices = nullptr;
        run.tokens = run.span = of.tokens + (s == count - 1 ? longer : 0);
        if (of.offsets) {
            row = of.offsets[kv_head];
            run.heads = 1;
            run.indices = of.indices + row;
            run.tokens = (int)(of.offsets[kv_head + 1] - row);
        }
        run.keys = of.keys + row * HEAD_DIM;
        run.values = of.values + row * HEAD_DIM;
        run.key_scales = of.key_scales + row;
        run.value_scales = of.value_scales + row;
        return run;
    }
};

// How many of `indices [count]`, which ascend, are below `end`.
__device__ __forceinline__ int below(const u32* indices, int count, int end) {
    int low = 0;
    while (low < count) {
        int middle = (low + count) / 2;
        if ((int)indices[middle] < end) {
            low = middle + 1;
        } else {
            count = middle;
        }
    }
    return low;
}

// How many keys of the run a query at `position` sees, the hidden ones among them.
__device__ __forceinline__ int visible(const Run& run, int position) {
    int seen = position + 1 - run.start;
    if (run.indices && seen < run.span) return below(run.indices, run.tokens, seen);
    return max(0, min(run.tokens, seen));
}
