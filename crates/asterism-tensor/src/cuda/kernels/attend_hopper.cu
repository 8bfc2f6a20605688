// attend.cu for many queries on Hopper (sm_90a), with its matrix products of a warp group, which
// read keys, values and queries from shared memory by themselves (after FlashAttention-3,
// arXiv 2407.08608). The same function of the same arguments and grid.
//
// One warp group fetches tiles of keys and of values, two slots each, and says which keys are
// hidden; two others compute 64 rows each. A computing group starts the scores of a tile, then adds
// the values of the one before, and takes the exponentials while the tensor cores work for it or
// for the other group.
//
// Macros: HEAD_DIM (64 or 128), KEYS (128), SPARSE or not: see mask.cuh.
//   rows     = 128
//   threads  = 384
//   shared   = (rows + 4 * KEYS) * HEAD_DIM * 2 + 1024 bytes

constexpr int ROWS = 128;
constexpr int GROUP = 128; // threads of a warp group
constexpr int SLOTS = 2;
// Flags of hidden keys are read when their keys' slot may be filled again already, and those of the
// tile after next are written: twice the slots keep them apart.
constexpr int FLAG_SLOTS = 2 * SLOTS;
constexpr int WORDS = KEYS / 32; // of flags, in a tile
constexpr int CHUNKS = HEAD_DIM / 8; // of 16 bytes, in a row
// Of a thread: all together at most 64 Ki, two groups compute.
#ifdef SPARSE
constexpr int FETCHING_REGISTERS = 64, COMPUTING_REGISTERS = 216;
#else
constexpr int FETCHING_REGISTERS = 56, COMPUTING_REGISTERS = 224;
#endif
// Shared memory holds a matrix as panels of 64 columns, so rows of 128 bytes, in which the 16-byte
// chunk c of row r lies at c ^ (r % 8): the layout the matrix unit calls a swizzle of 128 bytes.
constexpr int TILE = KEYS * HEAD_DIM * 2; // bytes
static_assert(HEAD_DIM % 64 == 0 && HEAD_DIM <= 128 && KEYS == 128, "sizes of the instructions");

// Where chunk `chunk` of row `row` lies in a matrix of `rows` rows.
__device__ __forceinline__ u32 swizzled(int rows, int row, int chunk) {
    return chunk / 8 * rows * 128 + row * 128 + (chunk % 8 ^ row % 8) * 16;
}

// What the matrix unit must know of a matrix at `address`: bytes from panel to panel, where it
// spans several along its contiguous dimension, and 1024 from eight rows to the next eight.
__device__ __forceinline__ unsigned long long matrix(u32 address, u32 panel) {
    return (address & 0x3ffff) >> 4 | (unsigned long long)(panel >> 4) << 16 |
           (unsigned long long)(1024 >> 4) << 32 | 1ull << 62;
}

#define REGISTERS_4(x, i) "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3])
#define REGISTERS_16(x, i) \
    REGISTERS_4(x, i), REGISTERS_4(x, i + 4), REGISTERS_4(x, i + 8), REGISTERS_4(x, i + 12)
#define REGISTERS_32(x, i) REGISTERS_16(x, i), REGISTERS_16(x, i + 16)
#define NAMES_32                                                                  \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "      \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, " \
    "%31"
#define NAMES_64                                                                  \
    NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, " \
    "%45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, " \
    "%60, %61, %62, %63"

// c [64, 128] (+)= a [64, 16] b^T [16, 128], both with the 16 contiguous. Of c a lane holds, of
// every 8 columns, what `multiply` of attend.cu says.
__device__ __forceinline__ void multiply_scores(float (&c)[64], unsigned long long a,
                                                unsigned long long b, bool add) {
    asm volatile("{ .reg .pred add; setp.ne.b32 add, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" NAMES_64
                 "}, %64, %65, add, 1, 1, 0, 0; }"
                 : REGISTERS_32(c, 0), REGISTERS_32(c, 32)
                 : "l"(a), "l"(b), "r"((int)add));
}

// c [64, HEAD_DIM] += a [64, 16] in registers, b [16, HEAD_DIM] with HEAD_DIM contiguous.
__device__ __forceinline__ void multiply_values(float (&c)[64], const u32 (&a)[4],
                                                unsigned long long b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" NAMES_64
                 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
                 : REGISTERS_32(c, 0), REGISTERS_32(c, 32)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

__device__ __forceinline__ void multiply_values(float (&c)[32], const u32 (&a)[4],
                                                unsigned long long b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" NAMES_32
                 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
                 : REGISTERS_32(c, 0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// Keeps the compiler from moving uses of registers across: products write them when they like.
template <int N>
__device__ __forceinline__ void pin(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(x[i])::"memory");
}

__device__ __forceinline__ void begin_products() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most N committed groups are not done.
template <int N>
__device__ __forceinline__ void wait_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

__device__ __forceinline__ void initialise(u32 barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

__device__ __forceinline__ void arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Until the barrier's phase of this parity is complete.
__device__ __forceinline__ void wait(u32 barrier, int parity) {
    asm volatile("{ .reg .pred done;\n"
                 "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again; }" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

// A computing group's turn: named barriers of both groups' threads, on which one only arrives.
__device__ __forceinline__ void take_turn(int group) {
    asm volatile("bar.sync %0, 256;" ::"r"(group + 1) : "memory");
}
__device__ __forceinline__ void give_turn(int group) {
    asm volatile("bar.arrive %0, 256;" ::"r"(group + 1) : "memory");
}

#ifdef SPARSE
// Waits for the group that fetches.
__device__ __forceinline__ void fetching_barrier() {
    asm volatile("bar.sync 3, 128;" ::: "memory");
}
#endif

// Makes what this thread wrote to shared memory visible to the matrix unit.
__device__ __forceinline__ void publish() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// The weights of a tile's scores, in place, by the running maximum; by how much earlier weights
// fade, and whether any does.
__device__ __forceinline__ bool weigh(float (&scores)[64], float (&most)[2], float (&total)[2],
                                      float (&fade)[2], float scale_log2) {
    bool grew = false;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = most[half];
#pragma unroll
        for (int n = 0; n < 16; n++) {
            top = fmaxf(top, fmaxf(scores[n * 4 + half * 2], scores[n * 4 + half * 2 + 1]));
        }
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        float base = top == -INFINITE ? 0.0f : top * scale_log2;
        fade[half] = exp2_fast(most[half] * scale_log2 - base);
        grew |= top > most[half];
        most[half] = top;
        float weights = 0.0f;
#pragma unroll
        for (int n = 0; n < 16; n++) {
#pragma unroll
            for (int i = n * 4 + half * 2; i < n * 4 + half * 2 + 2; i++) {
                scores[i] = exp2_fast(scores[i] * scale_log2 - base);
                weights += scores[i];
            }
        }
        total[half] = total[half] * fade[half] + weights;
    }
    return grew;
}

extern "C" __global__ void __launch_bounds__(3 * GROUP, 1)
    attend(const bf16* __restrict__ q, const __grid_constant__ Few few,
           const Sequence* sequences, int count, const Segment* table, int heads, int kv_heads,
           float scale, float* __restrict__ part_out, float* __restrict__ part_lse,
           bf16* __restrict__ out, float* __restrict__ lse,
#ifdef SPARSE
           const __grid_constant__ Mask mask_of_tiles) {
#else
           const u32* __restrict__ advance) {
#endif
    extern __shared__ unsigned char unaligned[];
    const Tables tables(few, sequences, table);
    const Sequence sequence = tables.sequences[sequence_of(
        tables.sequences, count, blockIdx.x, [](const Sequence& s) { return s.first_tile; })];
#ifdef SPARSE
    constexpr int parts = 1;
#else
    const int parts = sequence.parts;
    if ((int)blockIdx.z >= parts) return; // others are split into more
#endif
    __shared__ unsigned long long barriers[4 * SLOTS];
    __shared__ u32 flags[FLAG_SLOTS][WORDS]; // a bit for each hidden key
#ifdef SPARSE
    // Where tiles stand, and how many keys they have: computing groups have no registers left to
    // follow the list.
    __shared__ int tile_start[FLAG_SLOTS], tile_left[FLAG_SLOTS];
    __shared__ const bf16* singles[2][KEYS]; // keys, and values, on their way; null: hidden
    constexpr int SINGLE = -(1 << 30); // single keys, which are seen but for the hidden ones
#endif
    // Keys full, keys empty, values full, values empty: one barrier per slot.
    const u32 barrier = shared_address(barriers);
    const u32 keys_full = barrier, keys_empty = barrier + 8 * SLOTS;
    const u32 values_full = barrier + 16 * SLOTS, values_empty = barrier + 24 * SLOTS;
    const u32 q_tile = (shared_address(unaligned) + 1023) / 1024 * 1024;
    const u32 keys = q_tile + ROWS * HEAD_DIM * 2, values = keys + SLOTS * TILE;

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
    // In shared memory: the group that fetches has few registers.
    __shared__ __align__(8) unsigned char of_list[sizeof(List)];
    if (threadIdx.x == 0) {
        *(List*)of_list = List(mask_of_tiles, first_head, first_row / MASK_TILE);
    }
    const Grown segments(tables.segments + sequence.first_segment, sequence.segments,
                         *(const List*)of_list, kv_head, kv_heads);
#else
    const Grown segments(tables.segments + sequence.first_segment, sequence.segments, advance,
                         kv_head, kv_heads);
#endif
    auto position = [&](int token) { return position_of(sequence, token, segments.longer); };
    const int first_position = position(first_row / group);
    const int last_position = position((first_row + rows - 1) / group);

    // The place of a row of this tile in arrays [tokens, heads, ...], those of the sequence alone
    // and those of the launch.
    auto own_place = [&](int row) {
        int token = (first_row + row) / group, head = (first_row + row) % group;
        return (i64)token * heads + first_head + head;
    };
    auto place = [&](int row) { return (i64)sequence.first_token * heads + own_place(row); };

    if (threadIdx.x == 0) {
        for (int slot = 0; slot < SLOTS; slot++) {
            for (u32 full : {keys_full, values_full}) {
                initialise(full + 8 * slot, GROUP);
                initialise(full + 8 * (SLOTS + slot), 8); // empty: one of each computing warp
            }
        }
    }
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += 3 * GROUP) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        bool inside = row < rows;
        const bf16* from = q + (inside ? place(row) * HEAD_DIM + chunk * 8 : 0);
        copy_async(q_tile + swizzled(ROWS, row, chunk), from, inside);
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    publish();
    __syncthreads();

#ifdef SPARSE
    constexpr int begin = 0;
    const int end = Cursor::count(segments);
#else
    i64 seen = 0;
    for (int s = 0; s < segments.count; s++) seen += tiles_of(segments[s], last_position);
    const int begin = (int)(seen * blockIdx.z / parts);
    const int end = (int)(seen * (blockIdx.z + 1) / parts);
#endif
    Cursor at;
    at.seek(segments, last_position, begin);

    if (threadIdx.x < GROUP) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(FETCHING_REGISTERS));
        const int chunk = threadIdx.x % CHUNKS, first = threadIdx.x / CHUNKS;
        constexpr int STEP = GROUP / CHUNKS; // keys
        // Copies are complete in the order they were started in: barriers are told one copy later.
        u32 started = 0;
        auto copied = [&](u32 now) {
            asm volatile("cp.async.commit_group;" ::: "memory");
            if (started) {
                asm volatile("cp.async.wait_group 1;" ::: "memory");
                publish();
                arrive(started);
            }
            started = now;
        };
        for (int tile = begin; tile < end; tile++) {
            const int slot = (tile - begin) % SLOTS, parity = (tile - begin) / SLOTS % 2;
#ifdef SPARSE
            if (at.is_single(segments)) {
                // Each thread finds one of the keys; all copy all of them.
                const int column = at.tile * KEYS + (int)threadIdx.x;
                fetching_barrier();
                if (!segments.hides(column, first_position)) {
                    int key, s = segments.find_slot(segments.list.columns[column], key);
                    i64 own = ((i64)key * kv_heads + kv_head) * HEAD_DIM;
                    singles[0][threadIdx.x] = segments.given[s].keys + own;
                    singles[1][threadIdx.x] = segments.given[s].values + own;
                } else {
                    singles[0][threadIdx.x] = singles[1][threadIdx.x] = nullptr;
                }
                fetching_barrier();
#pragma unroll 1
                for (int which = 0; which < 2; which++) {
                    wait((which ? values_empty : keys_empty) + 8 * slot, parity ^ 1);
                    if (which == 0) {
                        const int of_tile = (tile - begin) % FLAG_SLOTS;
                        u32 word = __ballot_sync(~0u, !singles[0][threadIdx.x]);
                        if (threadIdx.x % 32 == 0) flags[of_tile][threadIdx.x / 32] = word;
                        if (threadIdx.x == 0) {
                            tile_start[of_tile] = SINGLE, tile_left[of_tile] = KEYS;
                        }
                    }
                    const u32 to = (which ? values : keys) + slot * TILE;
#pragma unroll 1
                    for (int key = first; key < KEYS; key += STEP) {
                        const bf16* from = singles[which][key];
                        copy_async(to + swizzled(KEYS, key, chunk), from ? from + chunk * 8 : q,
                                   from != nullptr);
                    }
                    copied((which ? values_full : keys_full) + 8 * slot);
                }
                at.advance(segments, last_position);
                continue;
            }
#endif
            const Run segment = segments[at.segment];
            const i64 row = (i64)segment.heads * HEAD_DIM;
            const int left = segment.tokens - at.tile * KEYS;
            const int own_key = threadIdx.x; // KEYS threads fetch
            bool is_hidden = false;
            if (segment.hidden && own_key < left) {
                int key = at.tile * KEYS + own_key;
                is_hidden = segment.hidden[segment.indices ? segment.indices[key] : key];
            }
            const i64 base = ((i64)at.tile * KEYS + first) * row + chunk * 8;
#pragma unroll
            for (int which = 0; which < 2; which++) {
                wait((which ? values_empty : keys_empty) + 8 * slot, parity ^ 1);
#ifdef SPARSE
                if (which == 0 && threadIdx.x == 0) {
                    tile_start[(tile - begin) % FLAG_SLOTS] = segment.start + at.tile * KEYS;
                    tile_left[(tile - begin) % FLAG_SLOTS] = left;
                }
#endif
                if (which == 0 && segment.hidden) {
                    u32 word = __ballot_sync(~0u, is_hidden);
                    if (own_key % 32 == 0) flags[(tile - begin) % FLAG_SLOTS][own_key / 32] = word;
                }
                const bf16* from = (which ? segment.values : segment.keys) + base;
                const u32 to = (which ? values : keys) + slot * TILE;
#pragma unroll
                for (int i = 0; i < KEYS / STEP; i++) {
                    int key = first + i * STEP;
                    copy_async(to + swizzled(KEYS, key, chunk), key < left ? from : q, key < left);
                    from += STEP * row;
                }
                copied((which ? values_full : keys_full) + 8 * slot);
            }
            at.advance(segments, last_position);
        }
        asm volatile("cp.async.wait_all;" ::: "memory");
        publish();
        if (started) arrive(started);
        return;
    }

    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COMPUTING_REGISTERS));
    const int lane = threadIdx.x % 32, computing = threadIdx.x / GROUP - 1;
    // A lane's rows: this one and the one 8 below.
    const int first_of_lane = computing * 64 + threadIdx.x / 32 % 4 * 16 + lane / 4;
    const u32 q_rows = q_tile + computing * 64 * 128;
    const float scale_log2 = scale * LOG2_E;
    float most[2] = {-INFINITE, -INFINITE}, total[2] = {}, fade[2];
    float sum[HEAD_DIM / 2] = {}; // [64 / 4, 4]: of values, weighted
    float scores[64];             // [KEYS / 8, 4]
    u32 weights[KEYS / 16][4];    // of the tile before, rounded

    auto start_scores = [&](int slot) {
        pin(scores);
        begin_products();
#pragma unroll
        for (int k = 0; k < HEAD_DIM / 16; k++) {
            multiply_scores(scores, matrix(q_rows + k / 4 * ROWS * 128 + k % 4 * 32, 16),
                            matrix(keys + slot * TILE + k / 4 * KEYS * 128 + k % 4 * 32, 16),
                            k > 0);
        }
        commit_products();
    };
    auto start_values = [&](int slot) {
        pin(sum);
        begin_products();
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            multiply_values(sum, weights[k], matrix(values + slot * TILE + k * 2048, KEYS * 128));
        }
        commit_products();
    };
    auto release = [&](u32 empty) {
        __syncwarp();
        if (lane == 0) arrive(empty);
    };
    // Hides what a row does not see of the tile at the cursor, number `tile` of all, and moves on.
    auto mask = [&](int tile) {
#ifdef SPARSE
        const int start = tile_start[tile % FLAG_SLOTS], left = tile_left[tile % FLAG_SLOTS];
        const bool hides = start == SINGLE;
        auto seen = [&](int position) { return min(left, position - start + 1); };
#else
        const Run segment = segments[at.segment];
        const int first_key = at.tile * KEYS, left = segment.tokens - first_key;
        const bool hides = segment.hidden != nullptr;
        auto seen = [&](int position) { return visible(segment, position) - first_key; };
#endif
        if (left < KEYS || seen(first_position) < KEYS) { // of the first row
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int limit = seen(position((first_row + first_of_lane + half * 8) / group));
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        int key = n * 8 + lane % 4 * 2 + i;
                        if (key >= limit) scores[n * 4 + half * 2 + i] = -INFINITE;
                    }
                }
            }
        }
        if (hides) {
            // Most tiles hide nothing, and few of those that do hide more than a run of keys.
#pragma unroll
            for (int word = 0; word < WORDS; word++) {
                u32 bits = flags[tile % FLAG_SLOTS][word];
                if (!bits) continue;
                bits >>= lane % 4 * 2;
#pragma unroll
                for (int n = 0; n < 4; n++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        if (bits >> (n * 8 + i % 2) & 1) {
                            scores[(word * 4 + n) * 4 + i] = -INFINITE;
                        }
                    }
                }
            }
        }
#ifndef SPARSE
        at.advance(segments, last_position);
#endif
    };
    auto round_weights = [&]() {
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                weights[k][i] = narrow2(scores[k * 8 + i * 2], scores[k * 8 + i * 2 + 1]);
            }
        }
    };

    if (begin < end) {
        wait(keys_full, 0);
        start_scores(0);
        wait_products<0>();
        pin(scores);
        release(keys_empty);
        mask(0);
        weigh(scores, most, total, fade, scale_log2);
        round_weights();
        // The groups take turns to start products, so that the exponentials of one are computed
        // during the products of the other. The first turn is group 0's.
        if (computing == 1) give_turn(0);
        for (int tile = 1; tile < end - begin; tile++) {
            const int slot = tile % SLOTS, before = (tile - 1) % SLOTS;
            wait(keys_full + 8 * slot, tile / SLOTS % 2);
            take_turn(computing);
            start_scores(slot);
            wait(values_full + 8 * before, (tile - 1) / SLOTS % 2);
            start_values(before);
            give_turn(1 - computing);
            wait_products<1>();
            pin(scores);
            release(keys_empty + 8 * slot);
            mask(tile);
            bool grew = weigh(scores, most, total, fade, scale_log2);
            wait_products<0>();
            pin(sum);
            release(values_empty + 8 * before);
            // Maxima soon stop growing: most tiles need not touch the sums.
            if (__any_sync(~0u, grew)) {
#pragma unroll
                for (int i = 0; i < HEAD_DIM / 2; i++) sum[i] *= fade[i / 2 % 2];
            }
            round_weights();
        }
        if (computing == 0) take_turn(0); // the last one given
        const int last = end - begin - 1;
        wait(values_full + 8 * (last % SLOTS), last / SLOTS % 2);
        start_values(last % SLOTS);
        wait_products<0>();
        pin(sum);
    }

    // With several parts, results of a sequence lie as [parts, tokens, heads, ...].
    const i64 part = sequence.first_part_row + (i64)blockIdx.z * tokens * heads;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = first_of_lane + half * 8;
        float all = total[half];
        all += __shfl_xor_sync(~0u, all, 1);
        all += __shfl_xor_sync(~0u, all, 2);
        if (row >= rows) continue;
        float inverse = all > 0.0f ? 1.0f / all : 0.0f;
        i64 at = parts == 1 ? place(row) : part + own_place(row);
#pragma unroll
        for (int n = 0; n < HEAD_DIM / 8; n++) {
            i64 to = at * HEAD_DIM + n * 8 + lane % 4 * 2;
            float x = sum[n * 4 + half * 2] * inverse, y = sum[n * 4 + half * 2 + 1] * inverse;
            if (parts == 1) {
                *(u32*)(out + to) = narrow2(x, y);
            } else {
                *(float2*)(part_out + to) = make_float2(x, y);
            }
        }
        float value = all > 0.0f ? most[half] * scale + __logf(all) : -INFINITE;
        if (lane % 4 == 0) (parts == 1 ? lse : part_lse)[at] = value;
    }
}
