import PVClock
import Testing

@testable import ABIChecker

@Suite struct OneInstantTests {
  static let get = "GETCLOCK-ONE-INSTANT"
  static let set = "SETCLOCK-ONE-INSTANT"

  static func history(
    source: SimulatedTime.Source = .tsc, bracket: UInt64 = 400, clockFlags: UInt32 = 0xe,
    knowsOffset: Bool = true, amend: (inout ClockRecord) -> Void = { _ in },
    late: (Int) -> Int64 = { _ in 0 }
  ) -> History {
    var host = HistoryBuilder(.oneInstant, source: source)
    host.clockFlags = clockFlags
    host.machine(0, 1)
    host.bracket = bracket
    for id in [0, 1, 0, 1] { host.register(id) }
    host.readRealtime()
    for _ in 0..<16 {
      host.getClock()
      host.amendClock(amend)
      host.readRealtime()
    }
    for round in 0..<20 {
      host.setClock(1 << 50, realtime: host.realtime - 1_000_000)
      host.stepClock(by: late(round))
      host.read(round % 2)
    }
    var history = host.history
    if !knowsOffset {
      history.events.removeAll { if case .tscOffset = $0.action { true } else { false } }
    }
    return history
  }

  @Test func oneInstantHolds() throws {
    for id in [Self.get, Self.set] { try expectHolds(id, Self.history()) }
  }

  @Test(arguments: [5_000, -5_000] as [Int64])
  func realtimeOfAnotherInstantIsBroken(error: Int64) throws {
    let history = Self.history(amend: {
      $0.realtime &+= UInt64(bitPattern: error)
    })
    try expectBroken(
      Self.get, history, "realtime of KVM_GET_CLOCK with host_tsc",
      "too \(error > 0 ? "high" : "low")")
  }

  /// CLOCK_REALTIME read late makes the clock be ahead.
  @Test(arguments: [20_000, -20_000] as [Int64])
  func aSettingThatMissesInEachCallIsBroken(error: Int64) throws {
    let history = Self.history(late: { _ in error })
    try expectBroken(
      Self.set, history, "the least error of 20 settings",
      "the fastest whole KVM_GET_CLOCK took 399 ns",
      "too \(error > 0 ? "high" : "low")")
  }

  /// A preemption between the two readings, in all calls but one.
  @Test func anErrorThatOneCallDoesNotHaveIsNotBroken() throws {
    try expectHolds(Self.set, Self.history(late: { $0 == 11 ? 80 : 50_000 }))
  }

  @Test func wideBracketsAreInconclusive() throws {
    for id in [Self.get, Self.set] {
      try expectInconclusive(id, Self.history(bracket: 400_000), "50")
    }
  }

  @Test func whatTheHostLacksIsNotTested() throws {
    for id in [Self.get, Self.set] {
      try expectNotTested(id, Self.history(source: .hpet), "realtime")
      try expectNotTested(id, Self.history(clockFlags: 2), "realtime")
    }
    try expectNotTested(Self.set, Self.history(knowsOffset: false), "TSC offset is not known")
  }

  @Test func aStepOfRealtimeIsNotBroken() throws {
    var host = HistoryBuilder(.oneInstant)
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    for _ in 0..<20 {
      host.readRealtime()
      host.getClock()
      host.realtimeAhead += 30_000_000
      host.setClock(1 << 50, realtime: host.realtime - 1_000_000)
      host.realtimeAhead -= 30_000_000
      host.readRealtime()
      host.read(0)
    }
    for id in [Self.get, Self.set] { #expect(try !judge(id, host.history).isBroken) }
  }
}

@Suite struct OfferedTests {
  static let id = "OFFERED-BY-VERSION"

  static func history(
    kernel: String = "6.12.117-amd64", backend: String = "kvm_amd", without: String? = nil,
    value: Int32 = 0
  ) -> History {
    var host = HistoryBuilder(.discovery)
    (host.header.host.kernel, host.header.host.backend) = (kernel, backend)
    for name in Set(Offer.table.map(\.name)).sorted() {
      let usual: Int32 = name == "KVM_CAP_ADJUST_CLOCK" ? 0xe : 1
      host.host(.capability(name: name, value: name == without ? value : usual))
    }
    return host.history
  }

  @Test func allThatTheVersionHasHolds() throws { try expectHolds(Self.id, Self.history()) }

  @Test(arguments: Set(Offer.table.map(\.name)).sorted())
  func whatIsMissingIsBroken(name: String) throws {
    try expectBroken(
      Self.id, Self.history(without: name), "in the value of \(name), which Linux has since",
      "0 on Linux 6.12")
  }

  @Test func aMissingFlagIsBroken() throws {
    try expectBroken(
      Self.id, Self.history(without: "KVM_CAP_ADJUST_CLOCK", value: 2), "0xe in the value",
      "2 on Linux 6.12")
  }

  @Test func whatALaterVersionBroughtIsNotAskedFor() throws {
    for name in ["KVM_CAP_VCPU_ATTRIBUTES", "KVM_VCPU_TSC_OFFSET"] {
      try expectHolds(Self.id, Self.history(kernel: "5.10.0", without: name))
    }
    try expectHolds(
      Self.id, Self.history(kernel: "5.15.3", without: "KVM_CAP_ADJUST_CLOCK", value: 2))
  }

  @Test func anotherModuleMayLackWhatHangsOnTheCPU() throws {
    try expectHolds(Self.id, Self.history(backend: "kvm_pvm", without: "KVM_VCPU_TSC_OFFSET"))
    try expectBroken(
      Self.id, Self.history(backend: "kvm_pvm", without: "KVM_CAP_KVMCLOCK_CTRL"), "since 3.5")
  }

  @Test func anUnknownVersionIsNotTested() throws {
    try expectNotTested(Self.id, Self.history(kernel: "next"), "does not begin with a version")
  }
}
