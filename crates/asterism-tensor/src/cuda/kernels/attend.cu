// Attention of a few or many queries over keys in segments, on tensor cores (FlashAttention-2,
// arXiv 2307.08691): scores of a tile of keys at a time, a running softmax in f32, and the
// log-sum-exp of every row.
//
// A launch is about any number of sequences: rows of `q` that stand at consecutive positions, with
// their own keys. What comes out for one does not depend on the others. Work is divided three ways.
//
// * Row tiles. The rows of one KV head of a sequence are pairs (token, query head of its group), in
//   this order: a tile of ROWS of them reads keys and values once for all heads of the group.
// * Parts (FlashDecoding). The key tiles that a row tile sees are cut into as many nearly equal
//   ranges as its sequence says; with more than one, each writes a partial result for `combine`.
// * Teams. A block is TEAMS teams of WARPS warps. A team has a range of its part's keys, a pipeline
//   of its own that fetches them, and no barrier with other teams until all merge their results.
//   Warps of a team divide its rows, BLOCKS * 16 each.
//
// Many queries want one team of 4 warps with 32 rows each: every key fragment read from shared
// memory is used twice. Few queries want 4 teams of one warp: 16 rows, and keys streaming in
// without a block-wide barrier.
//
// `advance`, if not null, is a number of tokens by which the last segment of every sequence is
// longer and its queries later than the other arguments say: a captured launch is replayed with it
// for tokens to come.
//
// With FP8, keys and values are e4m3 codes. A team widens each tile to bf16 when it is there, which
// is exact; the scales go where they cost least: to the scores, and to the weights of values.
//
// Macros: HEAD_DIM (a multiple of 16), WARPS, BLOCKS, TEAMS, KEYS (per tile, a multiple of 16),
// STAGES (tiles a team holds), RESIDENT (blocks a multiprocessor is to hold), FP8 or not, SPARSE
// (see mask.cuh) or not.
//   rows     = WARPS * BLOCKS * 16
//   threads  = WARPS * TEAMS * 32
//   shared   = rows * ((HEAD_DIM + 8) * 2 + 4) + TEAMS * ROOM bytes, where a team's ROOM is
//              tile = 2 * KEYS * (HEAD_DIM + 8) * 2 for each stage; or with FP8,
//              tile + STAGES * 2 * KEYS * (HEAD_DIM + 4)
//   grid     = (row tiles of all sequences, kv_heads, the most parts of a sequence)

constexpr int ROWS = WARPS * BLOCKS * 16;
constexpr int TEAM = WARPS * 32; // threads
constexpr int THREADS = TEAM * TEAMS;
// Elements between rows in shared memory: 16 bytes more than a row, so that eight consecutive rows
// of a fragment lie in different banks.
constexpr int STRIDE = HEAD_DIM + 8;
constexpr int TILE = KEYS * STRIDE;
constexpr int CHUNKS = HEAD_DIM / 8; // of 8 elements, in a row
// What is cached is copied 16 bytes at a time: PIECE elements, PIECES to a row of ROW bytes.
constexpr int PIECE = 16 / sizeof(Cached), PIECES = HEAD_DIM / PIECE;
#ifdef FP8
// A stage: codes of keys, codes of values, scales of keys, scales of values.
constexpr int ROW = HEAD_DIM;
constexpr int STAGE = 2 * KEYS * ROW + 2 * KEYS * 4; // bytes
// Before the stages is the tile that was widened.
constexpr int STAGES_FROM = 4 * TILE;
#else
// A stage: keys, then values.
constexpr int ROW = STRIDE * 2;
constexpr int STAGE = 2 * KEYS * ROW; // bytes
constexpr int STAGES_FROM = 0;
#endif
constexpr int ROOM = STAGES_FROM + STAGES * STAGE;
// Query fragments stay in registers where these have room; else they are read for each tile.
constexpr bool HOLD_QUERIES = BLOCKS == 1 && HEAD_DIM <= 160;
// Flags of hidden keys are read once as bits where registers have room for what that takes.
constexpr bool HIDDEN_BITS = BLOCKS == 1 && KEYS <= 16;

// The merge of teams reuses the room of their tiles: a row of sums, its maximum and its total, f32.
static_assert(TEAMS == 1 || ROWS * (HEAD_DIM + 2) * 4 <= ROOM,
              "tiles are too small to merge teams in");

// Waits for the team's other warps.
__device__ __forceinline__ void team_barrier(int team) {
    if constexpr (WARPS == 1) {
        __syncwarp();
    } else if constexpr (TEAMS == 1) {
        __syncthreads();
    } else {
        asm volatile("bar.sync %0, %1;" ::"r"(team + 1), "n"(TEAM) : "memory");
    }
}

#ifdef SPARSE
// Starts copying the single keys at the cursor to the stage at `to`; `hidden [KEYS]` receives which
// of them no row sees.
__device__ __forceinline__ void fetch_singles(const Grown& segments, Cursor at, int kv_head,
                                              int kv_heads, int thread, u32 to, bool* hidden,
                                              int first_position) {
    for (int key = thread; key < KEYS; key += TEAM) {
        hidden[key] = segments.hides(at.tile * KEYS + key, first_position);
    }
    for (int index = thread; index < KEYS * PIECES; index += TEAM) {
        int key = index / PIECES, piece = index % PIECES, own = 0;
        int column = at.tile * KEYS + key;
        bool inside = column < segments.list.single;
        int found = inside ? segments.find_slot(segments.list.columns[column], own) : 0;
        // Behind a segment's last key are slots of none: a weight of 0 would not make what lies
        // there 0.
        inside = inside && found < segments.count && own < segments.given[found].tokens;
        const Segment& segment = segments.given[inside ? found : 0];
        i64 from = inside ? ((i64)own * kv_heads + kv_head) * HEAD_DIM + piece * PIECE : 0;
        u32 offset = key * ROW + piece * 16;
        copy_async(to + offset, segment.keys + from, inside);
        copy_async(to + KEYS * ROW + offset, segment.values + from, inside);
    }
}
#endif

// Starts copying the tile at the cursor to the stage at `to`.
__device__ __forceinline__ void fetch(const Grown& segments, Cursor at, int thread, u32 to) {
    const Run segment = segments[at.segment];
    int first = at.tile * KEYS, left = segment.tokens - first;
    i64 head = (i64)first * segment.heads;
    const Cached *keys = segment.keys + head * HEAD_DIM, *values = segment.values + head * HEAD_DIM;
#pragma unroll
    for (int i = 0; i < (KEYS * PIECES + TEAM - 1) / TEAM; i++) {
        int index = i * TEAM + thread, key = index / PIECES, piece = index % PIECES;
        if (KEYS * PIECES % TEAM && key >= KEYS) break;
        bool inside = key < left;
        i64 from = inside ? (i64)key * segment.heads * HEAD_DIM + piece * PIECE : 0;
        u32 offset = key * ROW + piece * 16;
        copy_async(to + offset, keys + from, inside);
        copy_async(to + KEYS * ROW + offset, values + from, inside);
    }
#ifdef FP8
    for (int i = thread; i < 2 * KEYS; i += TEAM) {
        const float* scales = i < KEYS ? segment.key_scales : segment.value_scales;
        bool inside = i % KEYS < left;
        i64 from = inside ? head + (i64)(i % KEYS) * segment.heads : 0;
        copy_async4(to + 2 * KEYS * ROW + i * 4, scales + from, inside);
    }
#endif
}

#ifdef FP8
// Four codes as bf16: sign, exponent and mantissa are moved into place, which makes the exponent
// 120 too small, also for the smallest values.
__device__ __forceinline__ uint2 widen_codes(u32 codes) {
    u32 wide[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        u32 pair = __byte_perm(codes, 0, i ? 0x3424 : 0x1404); // each in the upper byte of its half
        pair = (pair & 0x80008000) | (pair & 0x7f007f00) >> 4;
        asm("fma.rn.bf16x2 %0, %1, %2, %3;"
            : "=r"(wide[i])
            : "r"(pair), "r"(0x7b807b80), "r"(0x80008000)); // times 2^120, minus 0
    }
    return make_uint2(wide[0], wide[1]);
}

// The codes of a stage to the tile [keys and values, KEYS, STRIDE].
__device__ __forceinline__ void widen_tile(const unsigned char* stage, bf16* tile, int thread) {
#pragma unroll
    for (int i = 0; i < (2 * KEYS * CHUNKS + TEAM - 1) / TEAM; i++) {
        int index = i * TEAM + thread, row = index / CHUNKS, chunk = index % CHUNKS;
        if (2 * KEYS * CHUNKS % TEAM && row >= 2 * KEYS) break;
        uint2 codes = *(const uint2*)(stage + index * 8);
        uint2 low = widen_codes(codes.x), high = widen_codes(codes.y);
        *(uint4*)(tile + row * STRIDE + chunk * 8) = make_uint4(low.x, low.y, high.x, high.y);
    }
}
// Multiplies scores, or weights, by the scales of their keys.
__device__ __forceinline__ void scale_columns(float (&scores)[BLOCKS][KEYS / 8][4],
                                              const float* scales, int lane) {
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
        float2 by = *(const float2*)(scales + n * 8 + lane % 4 * 2);
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            scores[b][n][0] *= by.x, scores[b][n][1] *= by.y;
            scores[b][n][2] *= by.x, scores[b][n][3] *= by.y;
        }
    }
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    attend(const bf16* __restrict__ q, const __grid_constant__ Few few,
           const Sequence* sequences, int count, const Segment* table, int heads, int kv_heads,
           float scale, float* __restrict__ part_out, float* __restrict__ part_lse,
           bf16* __restrict__ out, float* __restrict__ lse,
#ifdef SPARSE
           const __grid_constant__ Mask mask_of_tiles) {
#else
           const u32* __restrict__ advance) {
#endif
    extern __shared__ __align__(16) unsigned char shared[];
    const Tables tables(few, sequences, table);
    const Sequence sequence = tables.sequences[sequence_of(
        tables.sequences, count, blockIdx.x, [](const Sequence& s) { return s.first_tile; })];
    const int parts = sequence.parts;
    if ((int)blockIdx.z >= parts) return; // others are split into more
    bf16* q_tile = (bf16*)shared;             // [ROWS, STRIDE]
    int* positions = (int*)(shared + ROWS * STRIDE * 2); // [ROWS]: no registers are left for them
    unsigned char* tiles = (unsigned char*)(positions + ROWS); // [TEAMS, ROOM]

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % WARPS, team = threadIdx.x / TEAM;
    const int tokens = sequence.tokens;
#ifdef SPARSE
    const int group = 1, first_head = blockIdx.y, kv_head = first_head / (heads / kv_heads);
#else
    const int group = heads / kv_heads, kv_head = blockIdx.y, first_head = kv_head * group;
#endif
    // The last rows see the most keys: they come first, so that the end is not waiting for them.
    const int row_tiles = (tokens * group + ROWS - 1) / ROWS;
    const int first_row = (row_tiles - 1 - ((int)blockIdx.x - sequence.first_tile)) * ROWS;
    const int rows = min(ROWS, tokens * group - first_row);
#ifdef SPARSE
    const List list(mask_of_tiles, first_head, first_row / MASK_TILE);
    const Grown segments(tables.segments + sequence.first_segment, sequence.segments, list,
                         kv_head, kv_heads);
    __shared__ bool hidden_singles[STAGES][KEYS];
    // A list is of MASK_TILE rows, of which these may be some: all of them see its single keys.
    const int first_of_list =
        position_of(sequence, first_row / MASK_TILE * MASK_TILE, segments.longer);
#else
    const Grown segments(tables.segments + sequence.first_segment, sequence.segments, advance,
                         kv_head, kv_heads);
#endif
    const int first_position = position_of(sequence, first_row / group, segments.longer);
    const int last_position =
        position_of(sequence, (first_row + rows - 1) / group, segments.longer);
    for (int row = threadIdx.x; row < ROWS; row += THREADS) {
        positions[row] = position_of(sequence, (first_row + row) / group, segments.longer);
    }

    // The place of a row of this tile in arrays [tokens, heads, ...], those of the sequence alone
    // and those of the launch.
    auto own_place = [&](int row) {
        int token = (first_row + row) / group, head = (first_row + row) % group;
        return (i64)token * heads + first_head + head;
    };
    auto place = [&](int row) { return (i64)sequence.first_token * heads + own_place(row); };

    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        bool inside = row < rows;
        const bf16* from = q + (inside ? place(row) * HEAD_DIM + chunk * 8 : 0);
        copy_async(shared_address(q_tile + row * STRIDE + chunk * 8), from, inside);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");

    // This team's range of tiles.
#ifdef SPARSE
    const i64 seen = Cursor::count(segments);
#else
    i64 seen = 0;
    for (int s = 0; s < segments.count; s++) seen += tiles_of(segments[s], last_position);
#endif
    const int piece = blockIdx.z * TEAMS + team, pieces = parts * TEAMS;
    const int begin = (int)(seen * piece / pieces), end = (int)(seen * (piece + 1) / pieces);
    unsigned char* room = tiles + team * ROOM;
    const u32 ring = shared_address(room + STAGES_FROM);
    Cursor ahead, here;
    ahead.seek(segments, last_position, begin);
    here = ahead;
    auto fetch_next = [&](int stage) {
        const u32 to = ring + stage * STAGE;
#ifdef SPARSE
        if (ahead.is_single(segments)) {
            fetch_singles(segments, ahead, kv_head, kv_heads, threadIdx.x % TEAM, to,
                          hidden_singles[stage], first_of_list);
            ahead.advance(segments, last_position);
            return;
        }
#endif
        fetch(segments, ahead, threadIdx.x % TEAM, to);
        ahead.advance(segments, last_position);
    };
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (begin + stage < end) {
            fetch_next(stage);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    }

    const u32 q_rows =
        shared_address(q_tile + (warp * BLOCKS * 16 + lane % 16) * STRIDE + lane / 16 * 8);
    u32 queries[HOLD_QUERIES ? HEAD_DIM / 16 : 1][4];
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
    __syncthreads();
    if constexpr (HOLD_QUERIES) {
#pragma unroll
        for (int k = 0; k < HEAD_DIM / 16; k++) load_matrices(queries[k], q_rows + k * 32);
    }

    // A lane's rows: of each block of 16, row lane / 4 and the one 8 below.
    float sum[BLOCKS][HEAD_DIM / 8][4] = {}; // of values, weighted
    float most[BLOCKS][2], total[BLOCKS][2]; // largest score; sum of weights seen by this lane
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
        most[b][0] = most[b][1] = -INFINITE;
        total[b][0] = total[b][1] = 0.0f;
    }
    const float scale_log2 = scale * LOG2_E;
    // Where a lane's rows of the fragments start in a tile of keys, and in one of values.
    const u32 key_rows = ((lane / 16 * 8 + lane % 8) * STRIDE + lane / 8 % 2 * 8) * 2;
    const u32 value_rows = (lane % 16 * STRIDE + lane / 16 * 8) * 2;

    int slot = 0;
    for (int tile = begin; tile < end; tile++) {
        // The tile is there for the whole team, and all are done with the one before, whose room
        // the next tile takes.
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        team_barrier(team);
        if (tile + STAGES - 1 < end) {
            fetch_next(slot == 0 ? STAGES - 1 : slot - 1);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
#ifdef FP8
        const unsigned char* stage = room + STAGES_FROM + slot * STAGE;
        widen_tile(stage, (bf16*)room, threadIdx.x % TEAM);
        team_barrier(team);
        const float* key_scales = (const float*)(stage + 2 * KEYS * ROW);
        const float* value_scales = key_scales + KEYS;
        const u32 here_tile = shared_address(room);
#else
        const u32 here_tile = ring + slot * STAGE;
#endif
        const u32 keys = here_tile + key_rows, values = here_tile + 2 * TILE + value_rows;

        float scores[BLOCKS][KEYS / 8][4] = {};
#pragma unroll
        for (int k = 0; k < HEAD_DIM / 16; k++) {
            u32 a[BLOCKS][4];
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                if constexpr (HOLD_QUERIES) {
#pragma unroll
                    for (int i = 0; i < 4; i++) a[b][i] = queries[k][i];
                } else {
                    load_matrices(a[b], q_rows + b * 32 * STRIDE + k * 32);
                }
            }
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                u32 m[4];
                load_matrices(m, keys + n * 32 * STRIDE + k * 32);
#pragma unroll
                for (int b = 0; b < BLOCKS; b++) {
                    multiply(scores[b][2 * n], a[b], m[0], m[1]);
                    multiply(scores[b][2 * n + 1], a[b], m[2], m[3]);
                }
            }
        }

#ifdef FP8
        scale_columns(scores, key_scales, lane);
#endif
#ifdef SPARSE
        const bool single = here.is_single(segments);
        const Run segment = segments[single ? 0 : here.segment];
        const int first_key = single ? 0 : here.tile * KEYS;
        const int left = single ? KEYS : segment.tokens - first_key;
        const int first_seen = single ? KEYS : visible(segment, first_position) - first_key;
        const unsigned char* flags = single ? (const unsigned char*)hidden_singles[slot] : nullptr;
        const u32 bits = HIDDEN_BITS ? hidden_keys(flags, nullptr, left) : 0;
#else
        constexpr bool single = false;
        const Run segment = segments[here.segment];
        const int first_key = here.tile * KEYS, left = segment.tokens - first_key;
        const int first_seen = visible(segment, first_position) - first_key; // by the first row
        const u32 bits = HIDDEN_BITS ? hidden_keys(segment, first_key, left) : 0;
#endif
        auto is_hidden = [&](int n, int i) {
            if constexpr (HIDDEN_BITS) return bits >> (2 * n + i) & 1;
            const int key = first_key + n * 8 + lane % 4 * 2 + i;
#ifdef SPARSE
            if (single) return (u32)flags[key];
#endif
            return (u32)segment.is_hidden(key);
        };
        const bool hides = HIDDEN_BITS ? bits != 0 : single || segment.hidden;
        if (left < KEYS || first_seen < KEYS || hides) {
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    int row = (warp * BLOCKS + b) * 16 + half * 8 + lane / 4;
                    int limit = single ? KEYS : visible(segment, positions[row]) - first_key;
#pragma unroll
                    for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                        for (int i = 0; i < 2; i++) {
                            int key = n * 8 + lane % 4 * 2 + i;
                            if (key >= limit || is_hidden(n, i)) {
                                scores[b][n][half * 2 + i] = -INFINITE;
                            }
                        }
                    }
                }
            }
        }
        here.advance(segments, last_position);

        bool grew = false;
        float fade[BLOCKS][2];
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float top = most[b][half];
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++) {
                    top = fmaxf(top, fmaxf(scores[b][n][half * 2], scores[b][n][half * 2 + 1]));
                }
                top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
                top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
                // Minus the exponent of the largest weight; a row that saw no key yet has any.
                float base = top == -INFINITE ? 0.0f : top * scale_log2;
                fade[b][half] = exp2_fast(most[b][half] * scale_log2 - base);
                grew |= top > most[b][half];
                most[b][half] = top;
                float weights = 0.0f;
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                    for (int i = half * 2; i < half * 2 + 2; i++) {
                        scores[b][n][i] = exp2_fast(scores[b][n][i] * scale_log2 - base);
                        weights += scores[b][n][i];
                    }
                }
                total[b][half] = total[b][half] * fade[b][half] + weights;
            }
        }
        // Maxima soon stop growing: most tiles need not touch the sums.
        if (__any_sync(~0u, grew)) {
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
                for (int n = 0; n < HEAD_DIM / 8; n++) {
                    sum[b][n][0] *= fade[b][0], sum[b][n][1] *= fade[b][0];
                    sum[b][n][2] *= fade[b][1], sum[b][n][3] *= fade[b][1];
                }
            }
        }

#ifdef FP8
        scale_columns(scores, value_scales, lane);
#endif
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            u32 a[BLOCKS][4]; // weights of 16 keys: scores as they lie, rounded
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float(&pair)[4] = scores[b][2 * k + i / 2];
                    a[b][i] = narrow2(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
                }
            }
#pragma unroll
            for (int n = 0; n < HEAD_DIM / 16; n++) {
                u32 m[4];
                load_transposed(m, values + k * 32 * STRIDE + n * 32);
#pragma unroll
                for (int b = 0; b < BLOCKS; b++) {
                    multiply(sum[b][2 * n], a[b], m[0], m[1]);
                    multiply(sum[b][2 * n + 1], a[b], m[2], m[3]);
                }
            }
        }
        slot = slot == STAGES - 1 ? 0 : slot + 1;
    }

    // With several parts, results of a sequence lie as [parts, tokens, heads, ...].
    const i64 part = sequence.first_part_row + (i64)blockIdx.z * tokens * heads;
    auto write = [&](int row, int column, float x, float y) {
        if (parts == 1) {
            *(u32*)(out + place(row) * HEAD_DIM + column) = narrow2(x, y);
        } else {
            i64 at = (part + own_place(row)) * HEAD_DIM + column;
            *(float2*)(part_out + at) = make_float2(x, y);
        }
    };
    auto write_lse = [&](int row, float top, float all) {
        float value = all > 0.0f ? top * scale + __logf(all) : -INFINITE;
        (parts == 1 ? lse + place(row) : part_lse + part + own_place(row))[0] = value;
    };

    float* team_sum = (float*)tiles; // [TEAMS, ROWS, HEAD_DIM]
    float* team_most = team_sum + TEAMS * ROWS * HEAD_DIM; // [TEAMS, ROWS]
    float* team_total = team_most + TEAMS * ROWS;
    if constexpr (TEAMS > 1) __syncthreads(); // no team reads its tiles any more
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = (warp * BLOCKS + b) * 16 + half * 8 + lane / 4;
            float all = total[b][half];
            all += __shfl_xor_sync(~0u, all, 1);
            all += __shfl_xor_sync(~0u, all, 2);
            if constexpr (TEAMS > 1) {
                if (lane % 4 == 0) {
                    team_most[team * ROWS + row] = most[b][half];
                    team_total[team * ROWS + row] = all;
                }
#pragma unroll
                for (int n = 0; n < HEAD_DIM / 8; n++) {
                    int at = (team * ROWS + row) * HEAD_DIM + n * 8 + lane % 4 * 2;
                    *(float2*)(team_sum + at) =
                        make_float2(sum[b][n][half * 2], sum[b][n][half * 2 + 1]);
                }
            } else if (row < rows) {
                float inverse = all > 0.0f ? 1.0f / all : 0.0f;
#pragma unroll
                for (int n = 0; n < HEAD_DIM / 8; n++) {
                    write(row, n * 8 + lane % 4 * 2, sum[b][n][half * 2] * inverse,
                          sum[b][n][half * 2 + 1] * inverse);
                }
                if (lane % 4 == 0) write_lse(row, most[b][half], all);
            }
        }
    }
    if constexpr (TEAMS > 1) {
        __syncthreads();
        for (int i = threadIdx.x; i < rows * (HEAD_DIM / 2); i += THREADS) {
            int row = i / (HEAD_DIM / 2), column = i % (HEAD_DIM / 2) * 2;
            float top = -INFINITE, all = 0.0f, x = 0.0f, y = 0.0f;
#pragma unroll
            for (int t = 0; t < TEAMS; t++) top = fmaxf(top, team_most[t * ROWS + row]);
            float base = top == -INFINITE ? 0.0f : top;
#pragma unroll
            for (int t = 0; t < TEAMS; t++) {
                float weight = exp2_fast((team_most[t * ROWS + row] - base) * scale_log2);
                float2 pair = *(float2*)(team_sum + (t * ROWS + row) * HEAD_DIM + column);
                all += weight * team_total[t * ROWS + row];
                x += weight * pair.x, y += weight * pair.y;
            }
            float inverse = all > 0.0f ? 1.0f / all : 0.0f;
            write(row, column, x * inverse, y * inverse);
            if (column == 0) write_lse(row, top, all);
        }
    }
}
