import Testing

@testable import ABIChecker

@Suite struct ClockPairingTests {
  static let fields = "PAIRING-FIELDS"
  static let instant = "PAIRING-ONE-INSTANT"
  static let refused = "PAIRING-REFUSED"
  static let withoutTSC = "PAIRING-WITHOUT-TSC"

  static let history = Script.history(of: .clockPairing)
  static let switched = Script.history(of: .clockPairingWithoutTSC)

  /// Adds to the 64-bit number at an offset in what each successful call wrote.
  static func history(adding value: Int64, at offset: Int) -> History {
    history.changed {
      $0.changePairing { result, bytes in
        guard result == 0 else { return }
        bytes.withUnsafeMutableBytes { raw in
          let old = raw.load(fromByteOffset: offset, as: Int64.self)
          raw.storeBytes(of: old &+ value, toByteOffset: offset, as: Int64.self)
        }
      }
    }
  }

  @Test func pairingsOfOneInstantHold() throws {
    for id in [Self.fields, Self.instant, Self.refused] { try expectHolds(id, Self.history) }
    try expectHolds(Self.withoutTSC, Self.switched)
  }

  @Test(arguments: [5_000, -5_000] as [Int64])
  func realtimeOfAnotherInstantIsBroken(error: Int64) throws {
    try expectBroken(
      Self.instant, Self.history(adding: error, at: 8), "sec and nsec of KVM_HC_CLOCK_PAIRING",
      "too \(error > 0 ? "high" : "low")")
  }

  @Test func anotherTSCThanTheGuestsIsBroken() throws {
    try expectBroken(
      Self.fields, Self.history(adding: 6_999_000_000_000, at: 16),
      "the host's TSC before and after")
  }

  @Test func badFieldsAreBroken() throws {
    try expectBroken(Self.fields, Self.history(adding: 1, at: 24), "flags 0x1")
    try expectBroken(
      Self.fields, Self.history(adding: 1_000_000_000, at: 8), "nsec in [0, 999999999]")
  }

  @Test func aRefusalOnATSCIsBroken() throws {
    let history = Self.history.changed { $0.changePairing { result, _ in result = -95 } }
    try expectBroken(Self.fields, history, "0 returned by KVM_HC_CLOCK_PAIRING", "-95")
  }

  @Test func anotherClockThatIsServedIsBroken() throws {
    let served = Self.history.changed { $0.changePairing { result, _ in result = 0 } }
    try expectBroken(Self.refused, served, "-95 returned", "for clock 1", "0, memory as it was")
    let written = Self.history.changed { $0.changePairing { _, bytes in bytes[63] = 0 } }
    try expectBroken(Self.refused, written, "for clock 4294967295", "-95, memory written")
  }

  @Test func aPairingWithoutATSCIsBroken() throws {
    let history = Self.switched.changed { $0.changePairing { result, _ in result = 0 } }
    try expectBroken(Self.withoutTSC, history, "while the clocksource is hpet", "0, memory as it")
  }

  @Test func whatTheHostLacksIsNotTested() throws {
    var unknown = Self.history
    unknown.events.removeAll { if case .tscOffset = $0.action { true } else { false } }
    for id in [Self.fields, Self.instant] {
      try expectNotTested(id, unknown, "TSC offset is not known")
      try expectNotTested(id, Script.history(of: .clockPairing, source: .hpet), "clocksource")
    }
  }
}
