// What attention kernels on tensor cores share: tiles of KEYS keys, one after the other through all
// segments, fetched to shared memory while earlier ones are computed with.

// Key tiles of a run that a query at `last` sees any of.
__device__ __forceinline__ int tiles_of(const Run& run, int last) {
    return (visible(run, last) + KEYS - 1) / KEYS;
}

#ifdef SPARSE
// A place in the list of a tile of rows: tiles of keys, each in pieces of KEYS, and behind them
// single keys, KEYS at a time, for which there is no segment.
struct Cursor {
    int segment, tile, index;

    static constexpr int PIECES_OF_TILE = MASK_TILE / KEYS;

    __device__ __forceinline__ static int count(const Grown& segments) {
        return segments.list.listed * PIECES_OF_TILE + (segments.list.single + KEYS - 1) / KEYS;
    }
    __device__ __forceinline__ bool is_single(const Grown& segments) const {
        return segment > segments.count;
    }
    __device__ __forceinline__ void seek(const Grown& segments, int last, int at) {
        index = at;
        settle(segments);
    }
    __device__ __forceinline__ void advance(const Grown& segments, int last) {
        index++;
        settle(segments);
    }
    __device__ __forceinline__ void settle(const Grown& segments) {
        int listed = index / PIECES_OF_TILE;
        if (listed >= segments.list.listed) {
            segment = segments.count + 1;
            tile = index - segments.list.listed * PIECES_OF_TILE;
            return;
        }
        tile = (int)segments.list.tiles[listed];
        segment = segments.find(tile);
        tile = tile * PIECES_OF_TILE + index % PIECES_OF_TILE;
    }
};
#else
// A place in the sequence of key tiles that the queries up to position `last` see. Tiles do not
// reach from one segment into the next.
struct Cursor {
    int segment, tile;

    __device__ __forceinline__ void seek(const Grown& segments, int last, int index) {
        segment = 0, tile = index;
        settle(segments, last);
    }
    __device__ __forceinline__ void advance(const Grown& segments, int last) {
        tile++;
        settle(segments, last);
    }
    // Past the end of a segment: into the next that has the tile.
    __device__ __forceinline__ void settle(const Grown& segments, int last) {
        while (segment < segments.count) {
            int tiles = tiles_of(segments[segment], last);
            if (tile < tiles) break;
            tile -= tiles;
            segment++;
        }
    }
};
#endif

// Which of this lane's keys of a tile are hidden: of every 8 keys, from n * 8 on, a lane has keys
// (lane % 4) * 2 and the next, bits 2n and 2n + 1. `hidden` are the flags from the tile's first key
// on, `left` of them; null: none is. With `indices [left]`, the flag of a key is that of its token.
__device__ __forceinline__ u32 hidden_keys(const unsigned char* hidden, const u32* indices,
                                           int left) {
    u32 bits = 0;
    if (!hidden) return bits;
    static_assert(KEYS <= 128, "a bit for each key of a lane");
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
        int key = n * 8 + threadIdx.x % 4 * 2;
        if (indices) {
            bits |= (key < left && hidden[indices[key]] ? 1u : 0u) << 2 * n;
            bits |= (key + 1 < left && hidden[indices[key + 1]] ? 2u : 0u) << 2 * n;
            continue;
        }
        // Flags of a tile start at a multiple of 16 of an allocation.
        u32 pair = key + 1 < left ? *(const unsigned short*)(hidden + key)
                 : key < left     ? hidden[key]
                                  : 0;
        bits |= (pair & 0xff ? 1u : 0u) << 2 * n | (pair >> 8 ? 2u : 0u) << 2 * n;
    }
    return bits;
}

// The same of the tile of a run that begins at `first_key`.
__device__ __forceinline__ u32 hidden_keys(const Run& run, int first_key, int left) {
    if (run.indices) return hidden_keys(run.hidden, run.indices + first_key, left);
    return hidden_keys(run.hidden ? run.hidden + first_key : nullptr, nullptr, left);
}
