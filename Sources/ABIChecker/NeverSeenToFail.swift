extension Rule {
  /// The rules that no fault of the user-space model or of the toy VMM, no mutated kernel and no known deviation breaks, and the
  /// observations whose value none of them changes. A unit test compares this list with the faults, the mutants and the deviations.
  public static let neverSeenToFail: [String] = [
    "STABLE-UNENTERED", "READ-COST", "STABLE-LAG", "WALL-DRIFT", "MIG-TSC-RELATION",
    "RESTORE-PARKED", "RATE-BOOTTIME", "PERIODIC-SYNC",
    "SNAPSHOT-CLOCK-AND-TSC", "MIGRATE-TELLS-GUEST",
    "VMM-WALL-CLOCK",
  ]
}
