/// What a run met, so that a simulation that tests nothing is noticed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) edits: u64,
    pub(crate) opened: u64,
    pub(crate) loads: u64,
    pub(crate) unloads: u64,
    pub(crate) snapshots: u64,
    pub(crate) overflows: u64,
    pub(crate) crashes: u64,
    pub(crate) saved: u64,
    pub(crate) poisoned: u64,
    pub(crate) yjs: u64,
    pub(crate) stalls: u64,
    pub(crate) rewrites: u64,
    pub(crate) estranged: u64,
    pub(crate) quarantines: u64,
    pub(crate) checks: u64,
    pub(crate) refused: u64,
    pub(crate) wanted: u64,
}

impl Stats {
    pub(crate) fn add(&mut self, other: &Self) {
        self.edits += other.edits;
        self.opened += other.opened;
        self.loads += other.loads;
        self.unloads += other.unloads;
        self.snapshots += other.snapshots;
        self.overflows += other.overflows;
        self.crashes += other.crashes;
        self.saved += other.saved;
        self.poisoned += other.poisoned;
        self.yjs += other.yjs;
        self.stalls += other.stalls;
        self.rewrites += other.rewrites;
        self.estranged += other.estranged;
        self.quarantines += other.quarantines;
        self.checks += other.checks;
        self.refused += other.refused;
        self.wanted += other.wanted;
    }
}
