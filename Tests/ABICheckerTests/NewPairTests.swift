import PVClock
import Testing

@testable import ABIChecker

@Suite struct NewPairTests {
  static let bounded = "RESNAP-BOUNDED"
  static let noJump = "RESNAP-NO-JUMP"

  /// vCPU 0 goes to the old MSR and back after each wait; `fault` strikes between.
  static func after(
    _ waits: [UInt64], source: SimulatedTime.Source = .tsc,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.newPair, source: source)
    host.machine(0)
    host.register(0)
    host.look(0)
    for milliseconds in waits {
      host.wait(milliseconds: milliseconds)
      host.register(0, msr: MSR.systemTimeOld)
      fault(&host)
      host.register(0)
      host.look(0)
    }
    return host.history
  }

  @Test(arguments: [SimulatedTime.Source.tsc, .hyperV])
  func theStepIsWhatTheMultipliersMakeOfIt(source: SimulatedTime.Source) throws {
    try expectHolds(Self.bounded, Self.after([1, 150, 3000, 60_000], source: source))
  }

  /// A host that goes on where the pair before leads takes no more than it may.
  @Test func noStepAtAllIsNoFault() throws {
    try expectHolds(Self.bounded, Self.after([150, 150]) { $0.stepClock(by: 6) })
  }

  @Test(arguments: [-12, 12, 1_000_000] as [Int64])
  func aStepOfItsOwnIsBroken(step: Int64) throws {
    let history = Self.after([150, 150]) { $0.stepClock(by: step) }
    try expectBroken(
      Self.bounded, history, "the step at a new pair 150.0 ms after the one before",
      "the two multipliers make -7 ns to -6 ns")
  }

  /// 43 ppb of 150 ms.
  @Test func aLongWaitShowsTheJump() throws {
    let history = Self.after([150, 1])
    try expectBroken(Self.noJump, history, "0 to 2 ns", "-6 ns", "-7 ns to -6 ns")
    let verdict = try #require(Rule.named(Self.noJump)).verdict(on: [Timeline(history)])
    #expect(verdict.known?.always == false && verdict.known?.until == nil)
  }

  /// The known deviation makes steps of the multipliers' size, and no others.
  @Test(arguments: [(0, true), (20, false), (5_000_000_000, false)] as [(Int64, Bool)])
  func onlyAStepOfTheMultipliersIsTheKnownOne(step: Int64, fits: Bool) throws {
    let outcome = try judge(Self.noJump, Self.after([150, 150]) { $0.stepClock(by: step) })
    guard case .broken(let violations) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect(violations.allSatisfy { ($0.fitsDeviation ?? false) == fits })
  }

  /// An unrefined TSC frequency: 8 ppm of 150 ms are known, 1 ms is not.
  @Test(arguments: [(-1_200, true), (1_200, true), (1_000_000, false)] as [(Int64, Bool)])
  func aStepOfAnUnrefinedFrequencyIsKnown(step: Int64, fits: Bool) throws {
    let outcome = try judge(Self.bounded, Self.after([150, 150]) { $0.stepClock(by: step) })
    guard case .broken(let violations) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect(violations.allSatisfy { ($0.fitsDeviation ?? false) == fits })
  }

  /// Rounding takes nothing off: a step back of 1 ns is none of its making.
  @Test(arguments: [(-2, true), (-1, true), (4, true), (0, false)] as [(Int64, Bool)])
  func roundingOnlyAdds(step: Int64, isBroken: Bool) throws {
    let history = Self.after([1, 1]) { $0.stepClock(by: step) }
    #expect(try judge(Self.noJump, history).isBroken == isBroken)
  }

  /// An honest second machine has a clock of its own.
  @Test func machinesAreNotComparedWithEachOther() throws {
    var host = HistoryBuilder(.newPair)
    for _ in 0..<2 {
      host.machine(0)
      host.register(0)
      host.look(0)
      for msr in [MSR.systemTimeOld, MSR.systemTime] { host.register(0, msr: msr) }
    }
    try expectNotTested(Self.bounded, host.history, "saw 0")
  }

  @Test func aShortWaitShowsNone() throws {
    try expectHolds(Self.noJump, Self.after([1, 10, 20]))
    try expectBroken(Self.noJump, Self.after([1, 10]) { $0.stepClock(by: 5) }, "5 ns")
  }

  @Test func withoutAMasterClockThereIsNoPair() throws {
    for id in [Self.bounded, Self.noJump] {
      try expectNotTested(id, Self.after([150, 1], source: .hpet), "not in master-clock mode")
    }
  }

  @Test func onePairIsNotEnough() throws {
    try expectNotTested(Self.bounded, Self.after([150]), "saw 1", "needs at least 2")
  }

  /// KVM_SET_CLOCK steps the clock on purpose.
  @Test func aSettingIsNoStep() throws {
    try expectNotTested(Self.bounded, Self.after([150, 150]) { $0.setClock(5) }, "saw 0")
  }
}
