import PVClock
import Testing

@testable import ABIChecker

@Suite struct TSCFrequencyTests {
  static let host = SimulatedTime.tscKHz

  static func history(
    tolerance: Int32? = 250, scaling: Int32? = 0, _ steps: (inout HistoryBuilder) -> Void
  ) -> History {
    var host = HistoryBuilder(.tscFrequency)
    if let tolerance { host.host(.capability(name: "tsc_tolerance_ppm", value: tolerance)) }
    if let scaling { host.host(.capability(name: "KVM_CAP_TSC_CONTROL", value: scaling)) }
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    steps(&host)
    return host.history
  }

  /// Four frequencies in the band, each with a record and two readings after it.
  static func band(
    tolerance: Int32? = 250, error: Errno? = nil, got: UInt32? = nil,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    history(tolerance: tolerance) { host in
      for off: UInt32 in [100, 259, 400, 599] {
        host.setTSCKHz(0, Self.host + off, error: error, thenGets: got)
        host.register(0)
        host.wait(milliseconds: 4)
        fault(&host)
        host.read(0)
      }
    }
  }

  // MARK: TSCKHZ-ROUNDTRIP

  @Test func whatWasSetIsGot() throws { try expectHolds("TSCKHZ-ROUNDTRIP", Self.band()) }

  @Test func anotherFrequencyIsBroken() throws {
    try expectBroken(
      "TSCKHZ-ROUNDTRIP", Self.band(got: Self.host), "2596218 kHz", "2596118 kHz")
  }

  @Test func whatWasRefusedIsNoRoundtrip() throws {
    try expectNotTested("TSCKHZ-ROUNDTRIP", Self.band(error: "EINVAL"))
  }

  // MARK: TSCKHZ-TOLERANCE-MUL

  @Test func theHostsMultiplierHolds() throws {
    try expectHolds("TSCKHZ-TOLERANCE-MUL", Self.band())
  }

  @Test func theMultiplierOfTheFrequencyAskedForIsBroken() throws {
    let scale = TSCScale(tscKHz: Self.host + 100)
    let history = Self.history { host in
      host.setTSCKHz(0, Self.host + 100)
      host.register(0)
      host.amend { $0.tscToSystemMultiplier = scale.multiplier }
    }
    try expectBroken(
      "TSCKHZ-TOLERANCE-MUL", history, "\(Hex(scale.multiplier))", "0xc537b08f",
      "not for the 2596218 kHz")
  }

  /// 231 ppm of 4 ms are 2400 cycles.
  @Test func aTSCThatRunsAtTheFrequencyAskedForIsBroken() throws {
    let history = Self.band { host in
      host.bracket = 200
      host.vcpus[0]!.tscOffset &+= 2400
      host.vcpus[0]!.wantsRecord = true
    }
    try expectBroken("TSCKHZ-TOLERANCE-MUL", history, "cycles between the two", "host's rate")
  }

  @Test func aRefusalWithinTheBandIsBroken() throws {
    try expectBroken(
      "TSCKHZ-TOLERANCE-MUL", Self.band(error: "EINVAL"), "failed with EINVAL", "2596218 kHz")
  }

  @Test func outsideOfTheBandItIsNotTested() throws {
    try expectNotTested("TSCKHZ-TOLERANCE-MUL", Self.band(tolerance: 0), "within")
    try expectNotTested("TSCKHZ-TOLERANCE-MUL", Self.band(tolerance: nil), "can't be read")
  }

  /// The multiplier is judged by its own rule, which knows that the frequency asked for is not the TSC's.
  @Test func noOtherRuleTakesTheFrequencyAskedForForTheTSCs() throws {
    #expect(try !judge("MULSHIFT-EXACT", Self.band()).isBroken)
  }

  // MARK: TSCKHZ-FAIL-NOCHANGE

  static func refusal(got: UInt32? = nil, error: Errno? = "EINVAL") -> History {
    history { $0.setTSCKHz(0, Self.host / 2, error: error, thenGets: got) }
  }

  @Test func aRefusalThatChangesNothingHolds() throws {
    try expectHolds("TSCKHZ-FAIL-NOCHANGE", Self.refusal())
  }

  @Test func aRefusalThatShowsIsBroken() throws {
    try expectBroken(
      "TSCKHZ-FAIL-NOCHANGE", Self.refusal(got: Self.host / 2), "2596118 kHz", "1298059 kHz",
      "EINVAL")
  }

  @Test func aHostThatScalesIsNotTested() throws {
    try expectNotTested(
      "TSCKHZ-FAIL-NOCHANGE", Self.refusal(error: nil), "1298059 kHz", "scales the TSC")
  }

  // MARK: TSCKHZ-UPSCALE

  static func upscaled(
    scaling: Int32? = 0, isFrozen: Bool = false, error: Errno? = nil, bracket: UInt64 = 3000,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    history(scaling: scaling) { host in
      host.bracket = bracket
      host.setTSCKHz(0, 2 * Self.host, error: error, isFrozen: isFrozen)
      host.register(0)
      for _ in 0..<2 {
        host.wait(milliseconds: 5)
        fault(&host)
        host.read(0)
      }
    }
  }

  @Test func aTSCThatIsMovedOnHolds() throws {
    try expectHolds("TSCKHZ-UPSCALE", Self.upscaled())
  }

  @Test func aTSCAtTheHostsRateIsBroken() throws {
    try expectBroken(
      "TSCKHZ-UPSCALE", Self.upscaled(isFrozen: true), "5192236 kHz", "(5.0 ms), ",
      "too low")
  }

  /// The known deviation leaves the TSC at the host's rate and the clock right.
  @Test func onlyTheHostsRateFitsTheDeviation() throws {
    for (history, isKnown) in [
      (Self.upscaled(isFrozen: true), true),
      (Self.upscaled { $0.stepClock(by: 5_000_000) }, false),
      (Self.upscaled(isFrozen: true) { $0.vcpus[0]!.tscOffset &+= 2_000_000 }, false),
    ] {
      guard case .broken(let violations) = try judge("TSCKHZ-UPSCALE", history) else {
        Issue.record("not broken")
        continue
      }
      #expect(violations.allSatisfy { ($0.fitsDeviation == true) == isKnown })
    }
  }

  @Test func aClockThatRunsFastIsBroken() throws {
    try expectBroken(
      "TSCKHZ-UPSCALE", Self.upscaled { $0.stepClock(by: 5_000_000) }, "(5.0 ms) too high")
  }

  @Test func aHostThatScalesOrRefusesIsNotTested() throws {
    try expectNotTested(
      "TSCKHZ-UPSCALE", Self.upscaled(scaling: 1), "KVM_CAP_TSC_CONTROL is 1")
    try expectNotTested("TSCKHZ-UPSCALE", Self.upscaled(scaling: nil), "was not asked for")
    try expectNotTested("TSCKHZ-UPSCALE", Self.upscaled(error: "EINVAL"), "refused 5192236 kHz")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive("TSCKHZ-UPSCALE", Self.upscaled(bracket: 50_000_000))
  }

  // MARK: TSCKHZ-VM-SCOPE

  static func ofVM(
    capability: Int32? = 1, early: Errno? = nil, late: Errno? = "EINVAL", got: UInt32 = host
  ) -> History {
    var builder = HistoryBuilder(.tscFrequency)
    if let capability {
      builder.host(.capability(name: "KVM_CAP_VM_TSC_CONTROL", value: capability))
    }
    builder.createMachine()
    builder.host(.setTSCKHz(vcpu: nil, kHz: host, error: early))
    builder.createVCPU(0)
    builder.events[builder.events.count - 2].action = .tscKHz(vcpu: 0, kHz: got)
    builder.host(.setTSCKHz(vcpu: nil, kHz: host, error: late))
    return builder.history
  }

  @Test func beforeTheFirstVCPUOnlyHolds() throws {
    try expectHolds("TSCKHZ-VM-SCOPE", Self.ofVM())
  }

  @Test func whatIsLateWrongOrRefusedIsBroken() throws {
    try expectBroken("TSCKHZ-VM-SCOPE", Self.ofVM(late: nil), "with a vCPU to fail", "succeeded")
    try expectBroken("TSCKHZ-VM-SCOPE", Self.ofVM(early: "ENOTTY"), "failed with ENOTTY")
    try expectBroken("TSCKHZ-VM-SCOPE", Self.ofVM(got: 5), "2596118 kHz", "5 kHz")
  }

  @Test func withoutAVCPUMadeAfterwardsItIsNotTested() throws {
    var builder = HistoryBuilder(.tscFrequency)
    builder.host(.capability(name: "KVM_CAP_VM_TSC_CONTROL", value: 1))
    for _ in 0..<3 {
      builder.createMachine()
      builder.host(.setTSCKHz(vcpu: nil, kHz: Self.host, error: nil))
    }
    try expectNotTested("TSCKHZ-VM-SCOPE", builder.history, "with a vCPU")
  }

  @Test func oneFrequencyAgainAndAgainIsNotEnough() throws {
    let history = Self.history { host in
      for _ in 0..<5 { host.setTSCKHz(0, Self.host + 100) }
    }
    try expectNotTested("TSCKHZ-ROUNDTRIP", history, "different frequencies")
  }

  @Test func withoutTheCapabilityItIsNotTested() throws {
    try expectNotTested(
      "TSCKHZ-VM-SCOPE", Self.ofVM(capability: 0), "KVM_CAP_VM_TSC_CONTROL is 0")
    try expectNotTested("TSCKHZ-VM-SCOPE", Self.ofVM(capability: nil), "is 0")
  }
}
