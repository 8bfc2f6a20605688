// What attention kernels share: sequences with keys in segments, and the one rule of what is
// visible: a query at position p sees every key that is not hidden and whose position is at most p.

#ifdef FP8
typedef unsigned char Cached; // e4m3, see fp8.cu
#else
typedef bf16 Cached;
#endif

// Keys and values of tokens at consecutive positions, [tokens, kv_heads, head_dim] each.
struct Segment {
    const Cached* keys;
    const Cached* values;
    const float* key_scales; // [tokens, kv_heads]; null but for FP8
    const float* value_scales;
    const unsigned char* hidden; // [tokens], not 0 for a key that no query sees; null: none is
    int tokens;
    int start; // position of the first token
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

// The segments of one sequence. In a launch that is replayed for a later token, the last is longer
// than it says.
struct Grown {
    const Segment* const given;
    const int count;
    const int longer; // tokens
#ifdef SPARSE
    const List& list; // nothing is replayed

    __device__ __forceinline__ Grown(const Segment* given, int count, const List& list)
        : given(given), count(count), longer(0), list(list) {}

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
    __device__ __forceinline__ Grown(const Segment* given, int count, const u32* advance)
        : given(given), count(count), longer(advance ? (int)*advance : 0) {}
#endif

    __device__ __forceinline__ Segment operator[](int s) const {
        Segment segment = given[s];
        if (s == count - 1) segment.tokens += longer;
        return segment;
    }
};

// How many tokens of the segment a query at `position` sees, the hidden ones among them.
__device__ __forceinline__ int visible(const Segment& segment, int position) {
    return max(0, min(segment.tokens, position + 1 - segment.start));
}
