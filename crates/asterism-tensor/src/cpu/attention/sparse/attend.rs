//! Block-sparse attention: the kernels of dense attention, fed with the tiles of keys of a list.

#![allow(unsafe_code)]

use crate::cpu::Cpu;
use crate::cpu::attention::queries::{HeadPlace, Queries};
use crate::cpu::attention::{AttentionScratch, KvSegment, KvSequence, TileKernels, panels, tiles};
use crate::cpu::shared::SharedMut;
use crate::cpu::{Kv, KvView};
use crate::{HeadShape, MASK_TILE, TileMask};

/// The single keys that a head sees, side by side.
struct Columns {
    /// `[columns, head_dim]`
    keys: Kv,
    values: Kv,
    /// Of each, its tile and its position.
    places: Vec<(u32, usize)>,
}

/// One call.
struct Masked<'a> {
    mask: &'a TileMask,
    /// All tiles of keys, in order.
    tiles: Vec<KvSegment<'a>>,
    /// Of each query head, or of each KV head if the mask is the same for all.
    columns: Vec<Columns>,
}

impl<'a> Masked<'a> {
    fn new(mask: &'a TileMask, shape: HeadShape, segments: &[KvSegment<'a>]) -> Self {
        let cut = |segment: &KvSegment<'a>| {
            let segment = *segment;
            assert!(segment.hidden.is_none(), "keys are hidden by the mask here");
            let ends = (0..segment.tokens).step_by(MASK_TILE);
            ends.map(move |from| segment.slice(shape, from, (from + MASK_TILE).min(segment.tokens)))
        };
        let tiles: Vec<_> = segments.iter().flat_map(cut).collect();
        assert_eq!(tiles.len(), mask.key_tiles(), "tiles of keys");
        let mut masked = Self { mask, tiles, columns: Vec::new() };
        let heads = if mask.heads() == 1 { shape.kv_heads } else { shape.heads };
        masked.columns = (0..heads)
            .map(|head| masked.gather(mask.columns(head), shape, head * shape.kv_heads / heads))
            .collect();
        masked
    }

    fn gather(&self, slots: &[u32], shape: HeadShape, kv_head: usize) -> Columns {
        let like = self.tiles.first().map_or(KvView::F32(&[]), |tile| tile.keys);
        let (dim, place) = (shape.head_dim, HeadPlace::of(shape, kv_head));
        let room = || like.none_like(slots.len() * dim);
        let mut columns = Columns { keys: room(), values: room(), places: Vec::new() };
        for slot in slots {
            let (tile, key) = (slot / MASK_TILE as u32, *slot as usize % MASK_TILE);
            let segment = self.tiles[tile as usize];
            if key >= segment.tokens {
                continue;
            }
            let at = key * place.stride + place.offset;
            columns.keys.extend_from(segment.keys.slice(at..at + dim));
            columns.values.extend_from(segment.values.slice(at..at + dim));
            columns.places.push((tile, segment.start + key));
        }
        columns
    }

    /// Whether two heads see the same.
    fn alike(&self, a: usize, b: usize, query_tile: usize) -> bool {
        let mask = self.mask;
        mask.heads() == 1
            || mask.tiles(a, query_tile) == mask.tiles(b, query_tile)
                && mask.columns(a) == mask.columns(b)
    }

    /// The single keys that the rows from position `first` on see, and which of them count.
    fn columns_of(&self, queries: &Queries<'_>, listed: &[u32]) -> Option<(&Columns, Vec<bool>)> {
        let head = if self.mask.heads() == 1 { queries.kv_head } else { queries.heads.0 };
        let (columns, first) = (&self.columns[head], queries.position(0));
        let mut hidden: Vec<bool> = columns
            .places
            .iter()
            .map(|(tile, at)| *at > first || listed.binary_search(tile).is_ok())
            .collect();
        let seen = hidden.iter().rposition(|hidden| !hidden)?;
        hidden.truncate(seen + 1);
        Some((columns, hidden))
    }
}

impl Cpu {
    /// Attention of the rows of `sequence`, as [`Cpu::attend`] gives it, over those keys of its
    /// segments that `mask` lists.
    ///
    /// # Panics
    /// If `mask` was made for other numbers of heads or tiles, or a buffer is too short.
    pub fn attend_tiles(
        &self,
        q: &[f32],
        shape: HeadShape,
        sequence: &KvSequence<'_>,
        mask: &TileMask,
        out: &mut [f32],
        lse: &mut [f32],
    ) {
        let KvSequence { rows, positions, segments } = sequence;
        assert_eq!(out.len(), q.len(), "out must have the shape of q");
        assert_eq!(lse.len() * shape.head_dim, q.len(), "lse must be [tokens, heads]");
        assert!([1, shape.heads].contains(&mask.heads()), "heads of the mask");
        assert_eq!(rows.len().div_ceil(MASK_TILE), mask.query_tiles(), "tiles of queries");
        let masked = Masked::new(mask, shape, segments);
        let (width, group, dim) = (shape.q_width(), shape.group(), shape.head_dim);
        let own = &q[rows.start * width..rows.end * width];
        let (outs, lses) = (SharedMut::new(out), SharedMut::new(lse));
        let first_row = rows.start * shape.heads;
        self.for_each_with(mask.query_tiles() * shape.kv_heads, |scratch, task| {
            // Late tiles see the most keys: they go first.
            let tile = mask.query_tiles() - 1 - task / shape.kv_heads;
            let kv_head = task % shape.kv_heads;
            let first = tile * MASK_TILE;
            let tokens = MASK_TILE.min(rows.len() - first);
            let all = Queries::new(own, *positions, shape, kv_head, (first, tokens));
            let (mut head, end) = (kv_head * group, (kv_head + 1) * group);
            while head < end {
                // Keys are packed once for heads that see the same.
                let next = (head + 1..end).find(|next| !masked.alike(head, *next, tile));
                let next = next.unwrap_or(end);
                let queries = Queries { heads: (head, next - head), ..all };
                self.attend_list(&masked, queries, mask.tiles(head, tile), &mut scratch.attention);
                for r in 0..queries.rows() {
                    let row = first_row + queries.index(r);
                    // SAFETY: (token, head) belongs to this task alone.
                    let out = unsafe { outs.slice(row * dim, dim) };
                    // SAFETY: as above.
                    let lse = unsafe { lses.slice(row, 1) };
                    lse[0] = scratch.attention.running.finish(r, out);
                }
                head = next;
            }
        });
    }

    /// Some queries over the tiles `list` and the single keys beside them, into the running
    /// softmax.
    fn attend_list(
        &self,
        masked: &Masked<'_>,
        queries: Queries<'_>,
        list: &[u32],
        scratch: &mut AttentionScratch,
    ) {
        let last = queries.position(queries.rows() - 1);
        // The listed tiles as far as the last row sees them.
        let seen = list.iter().filter_map(|tile| {
            let tile = masked.tiles[*tile as usize];
            let tokens = tile.visible(last);
            (tokens > 0).then(|| tile.slice(queries.shape, 0, tokens))
        });
        let columns = masked.columns_of(&queries, list);
        match self.tiles_for(&masked.tiles) {
            Some(kernels) => {
                self.begin_tiles(kernels, queries, &mut scratch.running, &mut scratch.tiles);
                self.fold_list(kernels, &queries, seen, scratch);
                self.fold_columns(&queries, columns, tiles::KEYS, |part, place| {
                    let (running, tiles) = (&mut scratch.running, &mut scratch.tiles);
                    self.fold_tile(kernels, &queries, &[part], place, running, tiles);
                });
                (kernels.end)();
            }
            None => {
                self.begin_panels(&queries, &mut scratch.running, &mut scratch.panels);
                let place = HeadPlace::of(queries.shape, queries.kv_head);
                let AttentionScratch { running, panels, .. } = scratch;
                for tile in seen {
                    for from in (0..tile.tokens).step_by(panels::KEYS) {
                        let to = (from + panels::KEYS).min(tile.tokens);
                        let part = tile.slice(queries.shape, from, to);
                        self.fold_panel(&queries, part, place, running, panels);
                    }
                }
                self.fold_columns(&queries, columns, panels::KEYS, |part, place| {
                    self.fold_panel(&queries, part, place, running, panels);
                });
            }
        }
    }

    /// Folds tiles of keys in, several side by side as long as all rows see all of them.
    fn fold_list<'a>(
        &self,
        kernels: &TileKernels,
        queries: &Queries<'_>,
        seen: impl Iterator<Item = KvSegment<'a>>,
        scratch: &mut AttentionScratch,
    ) {
        let place = HeadPlace::of(queries.shape, queries.kv_head);
        let (first, most) = (queries.position(0), tiles::KEYS / MASK_TILE);
        let AttentionScratch { running, tiles, .. } = scratch;
        let mut pieces = Vec::with_capacity(most);
        for tile in seen {
            pieces.push(tile);
            if tile.visible(first) < MASK_TILE || pieces.len() == most {
                self.fold_tile(kernels, queries, &pieces, place, running, tiles);
                pieces.clear();
            }
        }
        self.fold_tile(kernels, queries, &pieces, place, running, tiles);
    }

    /// Calls `fold` with the single keys that count, at most `size` at a time.
    fn fold_columns(
        &self,
        queries: &Queries<'_>,
        columns: Option<(&Columns, Vec<bool>)>,
        size: usize,
        mut fold: impl FnMut(KvSegment<'_>, HeadPlace),
    ) {
        let Some((Columns { keys, values, .. }, hidden)) = columns else { return };
        let dim = queries.shape.head_dim;
        for from in (0..hidden.len()).step_by(size) {
            let hidden = &hidden[from..(from + size).min(hidden.len())];
            let range = from * dim..(from + hidden.len()) * dim;
            let (keys, values) = (keys.view(range.clone()), values.view(range));
            // All that count stand before the first row: only flags tell which are seen.
            let part = KvSegment {
                keys,
                values,
                tokens: hidden.len(),
                start: 0,
                hidden: Some(hidden),
                head: None,
            };
            fold(part, HeadPlace { stride: dim, offset: 0 });
        }
    }
}
