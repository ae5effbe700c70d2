internal import PVClock

/// A record on one line, under the kernel's names.
func describe(_ page: ClockPage) -> String {
  "version \(page.version), tsc_timestamp \(page.tscTimestamp), system_time \(page.systemTime), "
    + "tsc_to_system_mul \(Hex(page.tscToSystemMultiplier)), tsc_shift \(page.tscShift), "
    + "flags \(Hex(UInt64(page.flags.rawValue))), pad0 \(Hex(page.pad0)), pad \(Hex(UInt64(page.pad)))"
}

/// The steps back that a loop counted, with the worst one in full.
func describeSteps(_ result: LoopResult) -> String {
  "\(result.backwards) steps back, the worst by \(nanoseconds(-Int128(result.worst))): "
    + "\(result.worstBefore) ns, then \(result.worstAfter.value) ns (TSC \(result.worstAfter.tsc), "
    + "\(describe(result.worstAfter.page)))"
}
