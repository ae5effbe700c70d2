extension Rule {
  /// The rules that no fault of the user-space model, no mutated kernel and no known deviation breaks, and the observations
  /// whose value none of them changes. A unit test compares this list with the faults, the mutants and the deviations.
  public static let neverSeenToFail: [String] = [
    "MSR-FILTER-GP",
    "SLOT-READD-SERVED",
    "HVA-REMAP-SERVED",
    "READONLY-SLOT-UNTOUCHED",
    "DIRTY-LOG-WALL",
    "VSYSCALL-PAGE0-ON-VCPU1",
    "READ-COST",
    "STABLE-REGAINED-OFFSET-MATCH",
    "STABLE-LAG",
    "TSCOFFSET-CONTINUES",
    "TSCKHZ-TOLERANCE-MUL",
    "WALL-DRIFT",
    "MIG-TSC-RELATION",
    "CLOCKSOURCE-SWITCH-KEEPS-TIME",
    "STABLE-BACK-ON-TSC",
    "SETCLOCK-NONTSC",
    "RATE-BOOTTIME",
    "PERIODIC-SYNC",
  ]
}
