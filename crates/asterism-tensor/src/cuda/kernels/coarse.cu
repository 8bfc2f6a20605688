// Estimates of the weight of tiles, beside the matrix products in them; and what `lines` leaves.

// slash [heads, all]: weight by distance, added to what is there unless `is_first`. Of a segment
// with `tiles` tiles of `keys` keys, the first of which is number `first` of `all` keys, `bands
// [heads, tiles, rows + keys]` are as `lines` gives them for the last `count` of all keys. A thread
// for each distance; grid (distances / threads, heads).
extern "C" __global__ void slash(const float* __restrict__ bands, float* __restrict__ slash,
                                 int tiles, int keys, int rows, int count, i64 first, i64 all,
                                 int is_first) {
    i64 distance = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (distance >= all) return;
    i64 head = blockIdx.y;
    // Element e of the tile of first key f is the distance all - count - f + e - (keys - 1).
    i64 offset = distance - (all - count) + (keys - 1) + first; // e of tile 0
    i64 low = offset < 0 ? (-offset + keys - 1) / keys : 0;
    float sum = 0.0f;
    for (i64 tile = low; tile < tiles; tile++) {
        i64 e = offset + tile * keys;
        if (e >= rows + keys) break;
        sum += bands[(head * tiles + tile) * (rows + keys) + e];
    }
    i64 to = head * all + distance;
    slash[to] = is_first ? sum : slash[to] + sum;
}

// to [coarse rows, stride, dim]: rows `row stride + s` of head `head` of from [tokens, heads, dim],
// or, `reversed`, rows `row stride + stride - 1 - s`; zeros beyond the last. A block for each
// coarse row.
extern "C" __global__ void regroup(const bf16* __restrict__ from, bf16* __restrict__ to,
                                   int tokens, int heads, int head, int dim, int stride,
                                   int reversed) {
    for (int i = threadIdx.x; i < stride * dim; i += blockDim.x) {
        int s = i / dim;
        i64 token = (i64)blockIdx.x * stride + (reversed ? stride - 1 - s : s);
        bf16 value = token < tokens ? from[(token * heads + head) * dim + i % dim] : (bf16)0;
        to[(i64)blockIdx.x * stride * dim + i] = value;
    }
}

// to [coarse rows, dim]: means of every `stride` rows of head `head`, the last of what is left. A
// block for each, a thread for each element.
extern "C" __global__ void pool(const bf16* __restrict__ from, bf16* __restrict__ to, int tokens,
                                int heads, int head, int dim, int stride) {
    i64 first = (i64)blockIdx.x * stride;
    int count = (int)min((i64)stride, tokens - first);
    for (int d = threadIdx.x; d < dim; d += blockDim.x) {
        float sum = 0.0f;
        for (int i = 0; i < count; i++) {
            sum += widen(from[((first + i) * heads + head) * dim + d]);
        }
        to[(i64)blockIdx.x * dim + d] = narrow(sum / count);
    }
}

// A run of coarse keys.
struct Run {
    int first, count; // coarse keys
    int start;        // position of the first's first token
    int first_tile;
};

struct Runs {
    Run run[8];
    int count;
    int step;     // tokens of a coarse key
    int per_tile; // coarse keys, and coarse rows, of a tile
    int tiles;    // of keys
};

// Coarse keys of the run that a coarse row sees whose last token stands at `last`.
__device__ __forceinline__ int seen_of(const Run& run, int step, int last) {
    return max(0, min(run.count, (last - run.start + step) / step));
}

// Warps of a block of `weigh`, tiles of keys whose sums it makes together, and scores that a lane
// has on their way.
constexpr int WARPS = 16, PANEL = 128, FLIGHT = 8;

// sums [query tiles, tiles] of one head, from tile `first_tile` of queries on: softmax weights by
// tile of keys of the coarse scores [rows, stride], times `scale`, whose rows are those from the
// first of that tile on; `tokens` rows of the text stand at `start` and behind. A block for each
// tile of queries, a warp for each of its rows in turn; rows are added up in their order, so that
// sums are the same in every run.
extern "C" __global__ void weigh(const float* __restrict__ scores, float* __restrict__ sums,
                                 const __grid_constant__ Runs runs, int rows, i64 stride,
                                 float scale, int first_tile, int tokens, int start) {
    __shared__ float tops[128], shares[128];  // of the tile's rows
    __shared__ float of_rows[WARPS][PANEL];   // of the rows at hand
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, per_tile = runs.per_tile;
    const int own = min(per_tile, rows - blockIdx.x * per_tile);
    const int coarse = (first_tile + blockIdx.x) * per_tile;
    const float* lines = scores + (i64)blockIdx.x * per_tile * stride;
    auto last_of = [&](int i) {
        return start + min((coarse + i) * runs.step + runs.step - 1, tokens - 1);
    };
    // The softmax of every row: a top and a sum for each lane, then for all.
    for (int i = warp; i < own; i += WARPS) {
        float top = -INFINITE, all = 0.0f;
        for (int r = 0; r < runs.count; r++) {
            const float* line = lines + i * stride + runs.run[r].first;
            int seen = seen_of(runs.run[r], runs.step, last_of(i));
            for (int j = lane; j < seen; j += FLIGHT * 32) {
                float x[FLIGHT], most = top;
#pragma unroll
                for (int u = 0; u < FLIGHT; u++) {
                    x[u] = j + 32 * u < seen ? line[j + 32 * u] * scale : -INFINITE;
                    most = fmaxf(most, x[u]);
                }
                all *= __expf(top - most);
#pragma unroll
                for (int u = 0; u < FLIGHT; u++) all += __expf(x[u] - most);
                top = most;
            }
        }
        float most = warp_max(top);
        all = warp_sum(all > 0.0f ? all * __expf(top - most) : 0.0f);
        if (lane == 0) {
            tops[i] = most;
            shares[i] = all > 0.0f ? 1.0f / all : 0.0f;
        }
    }
    __syncthreads();
    i64 to = (i64)(first_tile + blockIdx.x) * runs.tiles;
    for (int panel = 0; panel < runs.tiles; panel += PANEL) {
        float sum = 0.0f; // of tile panel + threadIdx.x
        for (int first = 0; first < own; first += WARPS) {
            int i = first + warp;
            for (int r = 0; r < runs.count && i < own; r++) {
                const Run run = runs.run[r];
                const float* line = lines + i * stride + run.first;
                int seen = seen_of(run, runs.step, last_of(i));
                int tiles = (run.count + per_tile - 1) / per_tile;
                int low = max(0, panel - run.first_tile);
                int high = min(tiles, panel + PANEL - run.first_tile);
                float top = tops[i], share = shares[i];
                float* panel_row = of_rows[warp] + (run.first_tile - panel);
                // Some tiles in 32 coarse keys, or some coarse keys of a tile.
                const int width = min(per_tile, 32), rest = per_tile / width;
                const int end = high * per_tile;
                for (int j = low * per_tile + lane; j - lane < end; j += FLIGHT * 32) {
                    float weight[FLIGHT];
#pragma unroll
                    for (int u = 0; u < FLIGHT; u++) {
                        int k = j + 32 * u;
                        weight[u] = k < min(seen, end) ? __expf(line[k] * scale - top) : 0.0f;
                    }
                    for (int far = width / 2; far > 0; far /= 2) {
#pragma unroll
                        for (int u = 0; u < FLIGHT; u++) {
                            weight[u] += __shfl_xor_sync(~0u, weight[u], far);
                        }
                    }
                    // The parts of a tile of 64 or 128 coarse keys are side by side.
#pragma unroll
                    for (int u = 0; u < FLIGHT; u += 2) {
                        if (rest > 1) weight[u] += weight[u + 1];
                    }
#pragma unroll
                    for (int u = 0; u < FLIGHT; u += 4) {
                        if (rest > 2) weight[u] += weight[u + 2];
                    }
#pragma unroll
                    for (int u = 0; u < FLIGHT; u++) {
                        int k = j + 32 * u;
                        bool is_first = u % rest == 0 && lane % width == 0;
                        if (is_first && k < end) panel_row[k / per_tile] = weight[u] * share;
                    }
                }
            }
            __syncthreads();
            if (threadIdx.x < PANEL) {
                for (int w = 0; w < WARPS && first + w < own; w++) sum += of_rows[w][threadIdx.x];
            }
            __syncthreads();
        }
        int tile = panel + threadIdx.x;
        if (threadIdx.x < PANEL && tile < runs.tiles) sums[to + tile] = sum;
    }
}

// bits [rows, tiles / 32]: of each row of weights [rows, tiles], which tiles hold `share` of it:
// the first and its own, own[2 (row % query_tiles)] up to the next, then the heaviest until the
// share is reached, with all that weigh as much as the last. A block for each row. shared = tiles *
// 4 bytes
extern "C" __global__ void heaviest(const float* __restrict__ weights, const u32* __restrict__ own,
                                    u32* __restrict__ bits, int tiles, int query_tiles,
                                    float share) {
    extern __shared__ float others[]; // [tiles]: minus 1 where a tile is kept in any case
    __shared__ float of_warps[33];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const u32* range = own + 2 * (blockIdx.x % query_tiles);
    const float* row = weights + (i64)blockIdx.x * tiles;
    auto sum_of_block = [&](float x) {
        x = warp_sum(x);
        __syncthreads();
        if (lane == 0) of_warps[warp] = x;
        __syncthreads();
        return warp_sum(lane < warps ? of_warps[lane] : 0.0f);
    };
    float all = 0.0f, kept = 0.0f;
    for (int tile = threadIdx.x; tile < tiles; tile += blockDim.x) {
        bool is_own = tile == 0 || (tile >= (int)range[0] && tile < (int)range[1]);
        float weight = row[tile];
        all += weight;
        kept += is_own ? weight : 0.0f;
        others[tile] = is_own ? -1.0f : weight;
    }
    all = sum_of_block(all);
    kept = sum_of_block(kept);
    float needed = share * all - kept;
    // The largest weight from which on they add up to that; positive floats are in the order of
    // their bits. What weighs nothing is never kept.
    u32 low = 1, high = 0x7f800000;
    if (needed <= 0.0f) low = high;
    while (high - low > 1) {
        u32 middle = low + (high - low) / 2;
        float from = __uint_as_float(middle), sum = 0.0f;
        for (int tile = threadIdx.x; tile < tiles; tile += blockDim.x) {
            sum += others[tile] >= from ? others[tile] : 0.0f;
        }
        if (sum_of_block(sum) >= needed) {
            low = middle;
        } else {
            high = middle;
        }
    }
    float least = __uint_as_float(low);
    __syncthreads();
    // Whole warps: each lane a tile.
    int words = (tiles + 31) / 32;
    for (int word = warp; word < words; word += warps) {
        int tile = word * 32 + lane;
        bool is_kept = tile < tiles && (others[tile] < 0.0f || others[tile] >= least);
        u32 value = __ballot_sync(~0u, is_kept);
        if (lane == 0) bits[(i64)blockIdx.x * words + word] = value;
    }
}
