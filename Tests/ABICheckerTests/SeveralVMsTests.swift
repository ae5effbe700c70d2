import Testing

@testable import ABIChecker

@Suite struct SeveralVMsTests {
  static let time = "SISTERS-KEEP-TIME"
  static let master = "SISTERS-KEEP-MASTER-CLOCK"
  static let every = "CLOCKSOURCE-EVERY-VM"

  @Test func withoutAVMThatEndedTheSwitchesAreNotTested() throws {
    let history = Script.clocksourceTwice(HistoryBuilder(.clocksourceTwice), destroyed: false)
    try expectNotTested(Self.every, history, "other VMs: did not see destroyed before a switch")
  }

  @Test func sistersThatGoOnHold() throws {
    for id in [Self.time, Self.master] {
      try expectHolds(id, Script.severalVMs(HistoryBuilder(.severalVMs)))
    }
  }

  /// A setting that reaches the next VM as well.
  @Test func aSettingOfAnotherVMIsBroken() throws {
    let history = Script.severalVMs(HistoryBuilder(.severalVMs)) { vms, name in
      if name == 1 { vms.hosts[2].stepClock(by: 3_600_000_000_000) }
    }
    try expectBroken(Self.time, history, "the advance of vcpu0's reading", "(3600.0 s) too high")
  }

  @Test func aMasterClockThatGoesWithAnotherVMIsBroken() throws {
    let history = Script.severalVMs(HistoryBuilder(.severalVMs)) { vms, name in
      guard name == 0 else { return }
      vms.with(0) { $0.register(0, msr: MSR.systemTimeOld) }
      vms.hosts[1].pair = nil
      vms.hosts[1].refreshAll()
    }
    try expectBroken(Self.master, history, "another VM lost it", "flags 0x0")
  }

  @Test func oneVMAloneShowsNothing() throws {
    var host = HistoryBuilder(.severalVMs)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.setClock(1 << 40)
    host.settleAndLook()
    for id in [Self.time, Self.master] { try expectNotTested(id, host.history) }
  }

  @Test func everyVMThatHearsHolds() throws {
    try expectHolds(Self.every, Script.clocksourceTwice(HistoryBuilder(.clocksourceTwice)))
  }

  @Test func aVMThatDoesNotHearIsBroken() throws {
    let history = Script.clocksourceTwice(HistoryBuilder(.clocksourceTwice), heardBy: [0, 2])
    try expectBroken(Self.every, history, "bit 0 clear in vcpu0's record", "flags 0x1")
  }

  @Test func oneSwitchThereAndBackIsNotEnough() throws {
    let history = Script.clocksourceTwice(HistoryBuilder(.clocksourceTwice), rounds: 1)
    try expectNotTested(Self.every, history, "saw 2 different switches")
  }
}
