import PVClock
import Testing

@testable import ABIChecker

@Suite struct NewestPairTests {
  /// Who holds the newest pair after these steps, and whether the last one may have made a new one.
  static func after(_ steps: (inout HistoryBuilder) -> Void) -> (holders: [Int], isNew: Bool) {
    var host = HistoryBuilder()
    host.machine(0, 1)
    steps(&host)
    var pair = NewestPair()
    let isNew = host.events.map { pair.take($0) }.last ?? false
    return ([0, 1, 2].filter { pair.isHeld(by: $0) }, isNew)
  }

  @Test func theFirstEntryMakesNothingAnew() {
    #expect(Self.after { $0.enter(0) } == ([0], false))
  }

  @Test func anotherVCPUsFirstEntryMayTakeItAnew() {
    #expect(
      Self.after {
        $0.enter(0)
        $0.enter(1)
      } == ([1], true))
  }

  @Test func whoEntersAfterwardsHoldsIt() {
    let all: (inout HistoryBuilder) -> Void = { host in for id in [0, 1, 0] { host.enter(id) } }
    #expect(Self.after(all) == ([0, 1], false))
    #expect(
      Self.after {
        all(&$0)
        $0.setClock(5)
        $0.enter(1)
      } == ([1], false))
    #expect(
      Self.after {
        all(&$0)
        $0.createVCPU(2)
      }.holders == [])
  }

  @Test func changesOfTheMSRMakeItAnew() {
    for (msrs, isNew) in [
      ([MSR.systemTime], false), ([MSR.systemTimeOld], true),
      ([MSR.systemTimeOld, MSR.systemTime], true), ([MSR.systemTime, MSR.systemTime], false),
    ] {
      let result = Self.after { host in
        for id in [0, 1, 0] { host.enter(id) }
        for msr in msrs { host.run(0, .write(msr, 0x10001)) }
      }
      #expect(result.isNew == isNew && result.holders == (isNew ? [0] : [0, 1]))
    }
  }

  @Test func aTSCOffsetMakesItAnewAtItsVCPUsEntry() {
    let set: (inout HistoryBuilder) -> Void = { host in
      for id in [0, 1, 0] { host.enter(id) }
      host.setTSCOffset(0, 7)
      host.setClock(1)
    }
    #expect(Self.after(set).holders == [])
    #expect(
      Self.after {
        set(&$0)
        $0.enter(1)
        $0.enter(0)
      } == ([0], true))
    #expect(
      Self.after {
        set(&$0)
        $0.enter(0)
        $0.enter(1)
      } == ([0, 1], false))
  }

  @Test func anotherMachineStartsAgain() {
    #expect(
      Self.after {
        for id in [0, 1, 0] { $0.enter(id) }
        $0.createMachine()
      } == ([], false))
  }
}
