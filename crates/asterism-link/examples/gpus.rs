//! What two GPUs of this machine say to each other how fast: `gpus` measures messages, exchanges of
//! all hosts, broadcasts, steps that are recorded with exchanges, what they cost the work beside
//! them, and how long it takes to give up and to connect anew.

use std::error::Error;

type Done = Result<(), Box<dyn Error + Send + Sync>>;

#[cfg(feature = "cuda")]
mod measure {
    use super::Done;
    use asterism_link::nccl::{
        Communicator, Id, Library, Message, NcclError, Place, avoid_multicast,
    };
    use asterism_tensor::cuda::{Buffer, Cuda, CudaError, Device, Event, Gemm, Stream};
    use asterism_tensor::{Processor, Replaying, TensorError};
    use half::bf16;
    use std::error::Error;
    use std::sync::{Arc, Barrier, Mutex};
    use std::time::{Duration, Instant};

    const RANKS: usize = 2;
    const REPEATS: usize = 15;
    /// Bytes of messages.
    const SIZES: [usize; 9] =
        [8 << 10, 32 << 10, 128 << 10, 512 << 10, 2 << 20, 8 << 20, 32 << 20, 64 << 20, 256 << 20];
    const LAYERS: usize = 32;

    struct Shared {
        barrier: Barrier,
        id: Mutex<Option<Id>>,
    }

    struct Rank<'a> {
        rank: usize,
        library: Arc<Library>,
        cuda: Cuda,
        device: Arc<Device>,
        stream: Stream,
        all: Option<Communicator>,
        shared: &'a Shared,
    }

    fn microseconds(time: Duration) -> f64 {
        1e6 * time.as_secs_f64()
    }

    fn median(mut times: Vec<Duration>) -> Duration {
        times.sort();
        times[times.len() / 2]
    }

    impl Rank<'_> {
        /// Writes what both ranks measure alike once.
        fn say(&self, text: std::fmt::Arguments<'_>) {
            if self.rank == 0 {
                println!("{text}");
            }
        }

        fn connect(&mut self) -> Done {
            self.shared.barrier.wait();
            if self.rank == 0 {
                *self.shared.id.lock().map_err(|_| "a rank panicked")? =
                    Some(self.library.new_id()?);
            }
            self.shared.barrier.wait();
            let id = self.shared.id.lock().map_err(|_| "a rank panicked")?.ok_or("no id")?;
            let start = Instant::now();
            let place = (self.rank, RANKS);
            let all = Communicator::connect(&self.library, &self.device, &id, place, &|| true)?;
            self.all = Some(all);
            self.say(format_args!("connected in {:.0} ms", 1e3 * start.elapsed().as_secs_f64()));
            Ok(())
        }

        fn all(&mut self) -> Result<&mut Communicator, &'static str> {
            self.all.as_mut().ok_or("not connected")
        }

        /// The median time on the stream, and of the call.
        fn timed(
            &mut self,
            mut enqueue: impl FnMut(&mut Self) -> Done,
        ) -> Result<[Duration; 2], Box<dyn Error + Send + Sync>> {
            enqueue(self)?;
            let (mut times, mut calls) = (Vec::new(), Vec::new());
            for _ in 0..REPEATS {
                self.stream.record()?.wait()?;
                self.shared.barrier.wait();
                let start = self.stream.record()?;
                let called = Instant::now();
                enqueue(self)?;
                calls.push(called.elapsed());
                times.push(start.until(&self.stream.record()?)?);
            }
            Ok([median(times), median(calls)])
        }

        fn messages(&mut self) -> Done {
            let other = 1 - self.rank;
            self.say(format_args!(
                "bytes | one way | GB/s | both ways | GB/s each | gathered | broadcast | GB/s | the \
                 call takes"
            ));
            for bytes in SIZES {
                let leaves = Buffer::<u8>::zeros(&self.device, bytes)?.view().piece();
                let comes = Buffer::<u8>::zeros(&self.device, bytes)?.view().piece();
                let gathered = Buffer::<u8>::zeros(&self.device, RANKS * bytes)?.view().piece();
                self.device.synchronize()?;
                let rank = self.rank;
                let [one, _] = self.timed(|this| {
                    let message = match rank {
                        0 => Message::To(other, &leaves),
                        _ => Message::From(other, &comes),
                    };
                    let Self { stream, all, .. } = this;
                    let all = all.as_mut().ok_or("not connected")?;
                    Ok(all.exchange(Place::Beside(stream), &[message], &|| true)?)
                })?;
                let [both, call] = self.timed(|this| {
                    let messages = [Message::To(other, &leaves), Message::From(other, &comes)];
                    let Self { stream, all, .. } = this;
                    let all = all.as_mut().ok_or("not connected")?;
                    Ok(all.exchange(Place::Beside(stream), &messages, &|| true)?)
                })?;
                let [gather, _] = self.timed(|this| {
                    let (pieces, Self { stream, all, .. }) = ([gathered.clone()], this);
                    let all = all.as_mut().ok_or("not connected")?;
                    Ok(all.gather_all(Place::Beside(stream), rank, &pieces, &|| true)?)
                })?;
                let [broadcast, _] = self.timed(|this| {
                    let Self { stream, all, .. } = this;
                    let all = all.as_mut().ok_or("not connected")?;
                    Ok(all.broadcast(Place::Beside(stream), 0, &leaves, &|| true)?)
                })?;
                let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
                self.say(format_args!(
                    "{bytes} | {:.1} us | {:.1} | {:.1} us | {:.1} | {:.1} us | {:.1} us | {:.1} | {:.1} us",
                    microseconds(one),
                    rate(one),
                    microseconds(both),
                    rate(both),
                    microseconds(gather),
                    microseconds(broadcast),
                    rate(broadcast),
                    microseconds(call)
                ));
            }
            Ok(())
        }

        /// A step with an exchange in every layer, recorded.
        fn recorded(&mut self) -> Done {
            // What attention exchanges in a layer, and the partial sums of an MLP.
            self.recorded_exchanges(&[8 << 10, 128])?;
            self.recorded_exchanges(&[16 << 10])
        }

        fn recorded_exchanges(&mut self, sizes: &[usize]) -> Done {
            let zeros = |bytes: &usize| {
                Buffer::<u8>::zeros(&self.device, RANKS * bytes).map(|zeros| zeros.view().piece())
            };
            let pieces = sizes.iter().map(zeros).collect::<Result<Vec<_>, _>>()?;
            self.device.synchronize()?;
            let Self { rank, all, cuda, .. } = self;
            let all = all.as_mut().ok_or("not connected")?;
            let mut layers = || {
                (0..LAYERS).try_for_each(|_| {
                    all.gather_all(Place::Device, *rank, &pieces, &|| true).map_err(|error| {
                        TensorError::from(CudaError::Unsupported { what: error.to_string() })
                    })
                })
            };
            let start = Instant::now();
            layers()?;
            let called = start.elapsed();
            cuda.synchronize()?;
            let recording = cuda.record(layers)?;
            let mut recording = recording.ok_or("nothing was recorded")?;
            let mut times = Vec::new();
            for _ in 0..REPEATS {
                self.device.synchronize()?;
                self.shared.barrier.wait();
                let start = Event::record(&self.device)?;
                self.cuda.replay(&mut recording, 0)?;
                times.push(start.until(&Event::record(&self.device)?)?);
            }
            let step = median(times);
            self.say(format_args!(
                "{LAYERS} exchanges of {sizes:?} bytes: calls {:.0} us, replayed {:.0} us, {:.1} us each",
                microseconds(called),
                microseconds(step),
                microseconds(step) / LAYERS as f64
            ));
            Ok(())
        }

        /// Messages beside products.
        fn beside(&mut self) -> Done {
            let (size, other, bytes) = (8192, 1 - self.rank, 64 << 20);
            let numbers: Vec<bf16> = (0..size * size)
                .map(|i: usize| bf16::from_f32((i * 7919 % 1009) as f32 / 1009.0 - 0.5))
                .collect();
            let x = Buffer::from_slice(&self.device, &numbers)?;
            let mut y = Buffer::<bf16>::uninit(&self.device, size * size)?;
            let leaves = Buffer::<u8>::zeros(&self.device, bytes)?.view().piece();
            let comes = Buffer::<u8>::zeros(&self.device, bytes)?.view().piece();
            let gemm = Gemm::new(&self.device)?;
            let mut products = || {
                (0..10).try_for_each(|_| {
                    gemm.bf16(x.view(), x.view(), (size, size, size), y.view_mut())
                })
            };
            for messages in [0, 0, 20, 100] {
                self.device.synchronize()?;
                self.shared.barrier.wait();
                let start = Event::record(&self.device)?;
                products()?;
                let end = Event::record(&self.device)?;
                let began = self.stream.record()?;
                for _ in 0..messages {
                    let both = [Message::To(other, &leaves), Message::From(other, &comes)];
                    let Self { stream, all, .. } = &mut *self;
                    let all = all.as_mut().ok_or("not connected")?;
                    all.exchange(Place::Beside(stream), &both, &|| true)?;
                }
                let ended = self.stream.record()?;
                let (work, moved) = (start.until(&end)?, began.until(&ended)?);
                self.say(format_args!(
                    "10 products of {size}: {:.2} ms beside {messages} exchanges of 64 MiB, {:.2} ms",
                    1e3 * work.as_secs_f64(),
                    1e3 * moved.as_secs_f64()
                ));
            }
            Ok(())
        }

        /// Gives up a message that never comes, and connects anew.
        fn give_up(&mut self) -> Done {
            for _ in 0..3 {
                let comes = Buffer::<u8>::zeros(&self.device, 1 << 20)?.view().piece();
                let other = 1 - self.rank;
                if self.rank == 0 {
                    let Self { stream, all, .. } = &mut *self;
                    let all = all.as_mut().ok_or("not connected")?;
                    let message = [Message::From(other, &comes)];
                    let since = Instant::now();
                    // A new communicator waits for the other rank here, an older one on the GPU.
                    let soon = || since.elapsed() < Duration::from_millis(50);
                    match all.exchange(Place::Beside(stream), &message, &soon) {
                        Ok(()) | Err(NcclError::Stopped) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                std::thread::sleep(Duration::from_millis(100));
                self.shared.barrier.wait();
                let start = Instant::now();
                self.all.take().ok_or("not connected")?.abort();
                let aborted = start.elapsed();
                self.stream.record()?.wait()?;
                self.say(format_args!("aborted in {:.0} ms", 1e3 * aborted.as_secs_f64()));
                self.connect()?;
            }
            self.all()?.health()?;
            Ok(())
        }
    }

    pub(super) fn run() -> Done {
        avoid_multicast();
        let library = Arc::new(Library::load()?);
        println!("NCCL {}", library.found().version);
        let shared = Shared { barrier: Barrier::new(RANKS), id: Mutex::default() };
        let rank = |rank: usize| -> Done {
            let cuda = Cuda::open(rank)?;
            let device = Arc::clone(cuda.device());
            let (library, stream) = (Arc::clone(&library), Stream::new(&device)?);
            let mut this = Rank { rank, library, cuda, device, stream, all: None, shared: &shared };
            this.connect()?;
            this.messages()?;
            this.recorded()?;
            this.beside()?;
            this.give_up()
        };
        std::thread::scope(|scope| {
            let rank = &rank;
            let ranks: Vec<_> = (0..RANKS).map(|at| scope.spawn(move || rank(at))).collect();
            ranks.into_iter().try_for_each(|rank| rank.join().map_err(|_| "a rank panicked")?)
        })
    }
}

#[cfg(feature = "cuda")]
fn main() -> Done {
    measure::run()
}

#[cfg(not(feature = "cuda"))]
fn main() {
    eprintln!("this build does not compute on GPUs");
}
