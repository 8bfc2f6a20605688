// Which keys block-sparse attention computes: see TileMask (tile_mask.rs). With SPARSE, row tiles
// are rows of one query head, and tiles of keys come from its list instead of all in order.

constexpr int MASK_TILE = 128; // rows, and keys

struct Mask {
    const u32* starts;        // [heads * query_tiles + 1]
    const u32* tiles;         // of keys, ascending in each list
    const u32* column_starts; // [heads + 1]
    const u32* columns;       // slots, ascending
    int heads;                // 1: the same for all
    int query_tiles;
};

// What one tile of rows sees.
struct List {
    const u32* tiles;
    const u32* columns;
    int listed, single; // how many

    __device__ __forceinline__ List(const Mask& mask, int head, int query_tile) {
        head = mask.heads == 1 ? 0 : head;
        int list = head * mask.query_tiles + query_tile;
        tiles = mask.tiles + mask.starts[list];
        listed = (int)(mask.starts[list + 1] - mask.starts[list]);
        columns = mask.columns + mask.column_starts[head];
        single = (int)(mask.column_starts[head + 1] - mask.column_starts[head]);
    }

    __device__ __forceinline__ bool has(u32 tile) const {
        int low = 0, high = listed;
        while (low < high) {
            int middle = (low + high) / 2;
            if (tiles[middle] < tile) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low < listed && tiles[low] == tile;
    }
};
