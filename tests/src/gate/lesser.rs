//! The running kernel as one that can do less.

use std::ops::Range;

use portcullis::kernel::RunningKernel;
use portcullis_ebpf::{
    Kernel,
    kernel::{Btf, Features, Function, Modules, SourceError, UserFunction, UserProbe, UserSymbol},
};

/// The running kernel as one that can do less.
pub struct Lesser<'k> {
    kernel: &'k RunningKernel,
    features: Features,
}

impl<'k> Lesser<'k> {
    /// With these features.
    pub fn new(kernel: &'k RunningKernel, features: Features) -> Lesser<'k> {
        Lesser { kernel, features }
    }
}

impl Kernel for Lesser<'_> {
    fn features(&self) -> Features {
        self.features
    }

    fn btf(&self) -> &Btf {
        self.kernel.btf()
    }

    fn tracepoints(&self) -> Result<&[(String, String)], SourceError> {
        self.kernel.tracepoints()
    }

    fn tracepoint_format(&self, category: &str, name: &str) -> Result<Option<String>, SourceError> {
        self.kernel.tracepoint_format(category, name)
    }

    fn modules(&self) -> &Modules {
        self.kernel.modules()
    }

    fn module_btf(&self, module: &str) -> Result<Vec<u8>, SourceError> {
        self.kernel.module_btf(module)
    }

    fn possible_cpus(&self) -> u32 {
        self.kernel.possible_cpus()
    }

    fn functions(&self) -> Result<&[Function], SourceError> {
        self.kernel.functions()
    }

    fn symbol(&self, name: &str) -> Result<Option<Range<u64>>, SourceError> {
        self.kernel.symbol(name)
    }

    fn user_binary(&self, binary: &str) -> Result<String, SourceError> {
        self.kernel.user_binary(binary)
    }

    fn user_functions(&self, binary: &str, pattern: &str) -> Result<Vec<UserFunction>, SourceError> {
        self.kernel.user_functions(binary, pattern)
    }

    fn user_probes(&self, binary: &str, provider: &str, name: &str) -> Result<Vec<UserProbe>, SourceError> {
        self.kernel.user_probes(binary, provider, name)
    }

    fn user_symbol(&self, path: &str, name: &str, from: u64) -> Result<Option<UserSymbol>, SourceError> {
        self.kernel.user_symbol(path, name, from)
    }

    fn cgroup_id(&self, path: &str) -> Result<Option<u64>, SourceError> {
        self.kernel.cgroup_id(path)
    }
}
