//! A stream of work on the device, and graphs captured from one.

use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::{Argument, Buffer, Context, Function, Named as _, Plain, View, log_failure};
use crate::CudaError;

/// A stream of its own, not ordered with the default stream.
#[derive(Debug)]
pub(crate) struct Stream {
    context: Arc<Context>,
    raw: sys::CUstream,
}

// SAFETY: a stream may be used from any thread in which its context is current; it is not shared between two at once.
unsafe impl Send for Stream {}

impl Stream {
    /// Creates a stream in the context.
    pub(crate) fn create(context: &Arc<Context>) -> Result<Self, CudaError> {
        context.bind()?;
        let raw = result::stream::create(result::stream::StreamKind::NonBlocking).named("create a stream")?;
        Ok(Self { context: Arc::clone(context), raw })
    }

    /// The context.
    pub(crate) const fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Makes the stream's context current on this thread; the other calls rely on it.
    pub(crate) fn bind(&self) -> Result<(), CudaError> {
        self.context.bind()
    }

    /// Waits until all work put in so far is done; a kernel's fault surfaces here.
    pub(crate) fn synchronize(&self) -> Result<(), CudaError> {
        // SAFETY: the stream lives as long as self.
        unsafe { result::stream::synchronize(self.raw) }.named("wait for the GPU")
    }

    /// Writes values to the start of a view and waits until they are there.
    pub(crate) fn upload<T: Plain>(&self, to: View<'_>, values: &[T]) -> Result<(), CudaError> {
        if size_of_val(values) as u64 > to.bytes {
            return Err(CudaError::Launch { entry: "upload", mismatch: "more values than the buffer holds" });
        }
        // SAFETY: the view is as long as the values (above), and the wait below ends before they can be dropped.
        unsafe { result::memcpy_htod_async(to.address, values, self.raw) }.named("copy to the GPU")?;
        self.synchronize()
    }

    /// Reads values from the start of a view once all work put in before is done.
    pub(crate) fn download<T: Plain + Default>(&self, from: View<'_>, count: usize) -> Result<Vec<T>, CudaError> {
        let mut values = vec![T::default(); count];
        if size_of_val(values.as_slice()) as u64 > from.bytes {
            return Err(CudaError::Launch { entry: "download", mismatch: "more values than the buffer holds" });
        }
        // SAFETY: the view is as long as the values (above), every pattern of bits is a value, and the wait below ends
        // before they are read.
        unsafe { result::memcpy_dtoh_async(&mut values, from.address, self.raw) }.named("copy from the GPU")?;
        self.synchronize()?;
        Ok(values)
    }

    /// Sets every byte to 255: not-a-number in all float formats.
    pub(crate) fn poison(&self, view: View<'_>) -> Result<(), CudaError> {
        self.set(view, 0xFF)
    }

    /// Sets every byte.
    pub(crate) fn set(&self, view: View<'_>, byte: u8) -> Result<(), CudaError> {
        let bytes = usize::try_from(view.bytes).unwrap_or(usize::MAX);
        // SAFETY: the view is inside a live allocation of that length.
        unsafe { result::memset_d8_async(view.address, byte, bytes, self.raw) }.named("set memory")
    }

    /// Puts a copy of the whole of `from` into the stream, by the driver's own copy (`cuMemcpyDtoDAsync`).
    pub(crate) fn copy(&self, to: &Buffer, from: &Buffer) -> Result<(), CudaError> {
        let (to, from) = (to.view(), from.view());
        let bytes = usize::try_from(to.bytes.min(from.bytes)).unwrap_or(usize::MAX);
        // SAFETY: both are live allocations, at least that long, and the owner of a load drops them after its stream.
        unsafe { result::memcpy_dtod_async(to.address, from.address, bytes, self.raw) }.named("copy on the GPU")
    }

    /// Puts one launch of a kernel into the stream.
    ///
    /// # Safety
    /// That of [`Function::launch`].
    pub(crate) unsafe fn launch(
        &self,
        function: &Function,
        grid: (u32, u32),
        arguments: &[Argument],
    ) -> Result<(), CudaError> {
        // SAFETY: the caller's.
        unsafe { function.launch(self.raw, grid, arguments) }
    }

    /// Records what `work` puts into the stream as a graph, without running it.
    pub(crate) fn capture(&self, work: impl FnOnce() -> Result<(), CudaError>) -> Result<Graph, CudaError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as self.
        unsafe { result::stream::begin_capture(self.raw, mode) }.named("begin a capture")?;
        let worked = work();
        // SAFETY: a capture is under way on this stream; it is ended also when the work failed.
        let captured = unsafe { result::stream::end_capture(self.raw) };
        worked?;
        let raw = captured.named("end a capture")?;
        let mut graph = Graph { context: Arc::clone(&self.context), raw, executable: std::ptr::null_mut() };
        // SAFETY: the graph was just captured.
        graph.executable = unsafe { result::graph::instantiate(raw, sys::CUgraphInstantiate_flags(0)) }
            .named("instantiate a graph")?;
        Ok(graph)
    }

    /// Puts one run of a graph into the stream.
    pub(crate) fn replay(&self, graph: &Graph) -> Result<(), CudaError> {
        // SAFETY: both live; a graph's buffers are owned beside it and dropped after the stream was synchronised.
        unsafe { result::graph::launch(graph.executable, self.raw) }.named("launch a graph")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        // SAFETY: created once, destroyed once; the driver finishes the work in it.
        log_failure("destroy a stream", unsafe { result::stream::destroy(self.raw) });
    }
}

/// A captured sequence of launches, ready to run at the price of one.
#[derive(Debug)]
pub(crate) struct Graph {
    context: Arc<Context>,
    raw: sys::CUgraph,
    executable: sys::CUgraphExec,
}

// SAFETY: a graph may be used from any thread, one at a time, and it is not shared.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        if !self.executable.is_null() {
            // SAFETY: instantiated once, destroyed once.
            log_failure("destroy a graph", unsafe { result::graph::exec_destroy(self.executable) });
        }
        if !self.raw.is_null() {
            // SAFETY: captured once, destroyed once.
            log_failure("destroy a graph", unsafe { result::graph::destroy(self.raw) });
        }
    }
}
