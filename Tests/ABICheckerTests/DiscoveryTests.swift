import Testing

@testable import ABIChecker

@Suite struct DiscoveryTests {
  @Test(arguments: [Hex(0x11), 0x12, 0x4b56_4d00, 0x4b56_4d01])
  func aMissingMSRIsNamed(missing: Hex) throws {
    var host = HistoryBuilder(.discovery)
    let all: [Hex] = [0x11, 0x12, 0x4b56_4d00, 0x4b56_4d01, 0x4b56_4d07]
    host.host(.msrIndexList(indices: all.filter { $0 != missing }))
    try expectBroken("MSR-INDEX-LIST", host.history, "\(missing) in the list", "4 MSRs")
  }

  @Test func msrsInAnyOrderAndAmongOthersHold() throws {
    var host = HistoryBuilder(.discovery)
    host.host(
      .msrIndexList(indices: [0xc000_0080, 0x4b56_4d01, 0x12, 0x10, 0x4b56_4d00, 0x11, 0x11]))
    try expectHolds("MSR-INDEX-LIST", host.history)
  }

  @Test func withoutAListNothingIsSaidOfIt() throws {
    try expectNotTested(
      "MSR-INDEX-LIST", HistoryBuilder(.discovery).history, "saw 0", "needs at least 4")
  }

  static func cpuid(eax0: Hex = 0x4000_0001, ebx0: Hex = 0x4b4d_564b, eax1: Hex) -> History {
    var host = HistoryBuilder(.discovery)
    host.host(
      .supportedCPUID(function: 0x4000_0000, eax: eax0, ebx: ebx0, ecx: 0x564b_4d56, edx: 0x4d))
    host.host(.supportedCPUID(function: 0x4000_0001, eax: eax1, ebx: 0, ecx: 0, edx: 0))
    return host.history
  }

  @Test(arguments: [
    (Hex(0x0100_0008), "bit 0 (CLOCKSOURCE)"), (0x0100_0001, "bit 3 (CLOCKSOURCE2)"),
    (9, "bit 24 (CLOCKSOURCE_STABLE_BIT)"),
  ])
  func aMissingFeatureIsNamed(eax: Hex, name: String) throws {
    try expectBroken("CPUID-FEATURES", Self.cpuid(eax1: eax), name, "eax \(eax)")
  }

  @Test func anotherSignatureIsBroken() throws {
    try expectBroken(
      "CPUID-FEATURES", Self.cpuid(ebx0: 0x5447_4354, eax1: 0x0100_0009), "KVMKVMKVM",
      "ebx 0x54474354")
    try expectBroken(
      "CPUID-FEATURES", Self.cpuid(eax0: 0x4000_0000, eax1: 0x0100_0009), "eax 0x40000000")
  }

  @Test func moreLeavesAndFeaturesHold() throws {
    try expectHolds("CPUID-FEATURES", Self.cpuid(eax0: 0x4000_0010, eax1: 0xffff_ffff))
  }

  @Test func oneLeafIsNotEnough() throws {
    var host = HistoryBuilder(.discovery)
    host.host(
      .supportedCPUID(function: 0x4000_0001, eax: 0x0100_0009, ebx: 0, ecx: 0, edx: 0))
    try expectNotTested("CPUID-FEATURES", host.history, "3", "4")
  }

  static func clock(capability: Int32, flags: [UInt32]) -> History {
    var host = HistoryBuilder(.discovery)
    host.host(.capability(name: "KVM_CAP_ADJUST_CLOCK", value: capability))
    host.machine(0)
    for (number, flags) in flags.enumerated() {
      host.host(.getClock(ClockRecord(clock: 5, flags: flags)))
      if number == 0 { host.enter(0) }
    }
    return host.history
  }

  @Test(arguments: [(Int32(2), UInt32(0xe)), (1, 2), (0, 2), (0xe, 0x1e), (0xe, 1), (-1, 2)])
  func aFlagOutsideTheCapabilityIsBroken(capability: Int32, flags: UInt32) throws {
    try expectBroken(
      "CAP-ADJUST-CLOCK", Self.clock(capability: capability, flags: [0, flags]),
      "flags \(Hex(flags))", "\(Hex(UInt32(capability < 2 ? 0 : capability)))")
  }

  @Test func flagsWithinTheCapabilityHold() throws {
    for (capability, flags): (Int32, [UInt32]) in [
      (2, [0, 2]), (1, [0, 0]), (0xe, [0, 2, 4, 8, 0xe]),
    ] {
      try expectHolds("CAP-ADJUST-CLOCK", Self.clock(capability: capability, flags: flags))
    }
  }

  @Test func withoutTheCapabilityNothingIsSaidOfFlags() throws {
    var host = HistoryBuilder(.discovery)
    host.machine(0)
    for _ in 0..<3 { host.getClock() }
    try expectNotTested("CAP-ADJUST-CLOCK", host.history)
  }

  @Test func theClockIsNeededBeforeAVCPURanAndAfter() throws {
    for isBefore in [true, false] {
      var host = HistoryBuilder(.discovery)
      host.host(.capability(name: "KVM_CAP_ADJUST_CLOCK", value: 0xe))
      host.machine(0)
      if !isBefore { host.enter(0) }
      for _ in 0..<2 { host.getClock() }
      try expectNotTested(
        "CAP-ADJUST-CLOCK", host.history,
        "did not see \(isBefore ? "after" : "before") a vCPU has run")
    }
  }
}
