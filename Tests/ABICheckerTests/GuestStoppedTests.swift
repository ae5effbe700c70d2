import PVClock
import Testing

@testable import ABIChecker

@Suite struct GuestStoppedTests {
  static let refuses = "KVMCLOCKCTRL-EINVAL"
  static let set = "GUESTSTOPPED-SET"
  static let one = "GUESTSTOPPED-ONE-VCPU"
  static let sticky = "GUESTSTOPPED-STICKY"
  static let clears = "GUESTSTOPPED-GUEST-CLEARS"
  static let moves = "GUESTSTOPPED-NOT-ON-NEW-PAGE"
  static let pending = "GUESTSTOPPED-PENDING"

  /// Two vCPUs, registered and looked at; then `steps`.
  static func registered(_ steps: (inout HistoryBuilder) -> Void) -> History {
    var host = HistoryBuilder(.guestStopped)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for id in [0, 1] { host.look(id) }
    steps(&host)
    return host.history
  }

  /// Told on each vCPU in turn, with looks before and after the entry; `fault` strikes before the second look.
  static func told(
    errno: Errno? = nil, early: (inout HistoryBuilder, Int) -> Void = { _, _ in },
    late: (inout HistoryBuilder, Int) -> Void = { _, _ in }
  ) -> History {
    registered { host in
      for id in [0, 1] {
        host.tellStopped(id, errno: errno)
        early(&host, id)
        host.look(id)
        late(&host, id)
        host.settleAndLook()
        host.clearStopped(id)
        host.look(id)
      }
    }
  }

  @Test func eachStateWithoutARecordRefuses() throws {
    try expectHolds(Self.refuses, Script.history(of: .guestStopped))
    try expectNotTested(Self.refuses, Self.told(), "asked only of records that are []")
  }

  @Test(arguments: ["never registered", "disabled by the guest", "disabled by the host", "reset"])
  func successWithoutARecordIsBroken(state: String) throws {
    let history = Self.registered { host in
      switch state {
      case "never registered": host.createVCPU(2)
      case "disabled by the guest": host.run(0, .write(MSR.systemTime, 0x10000))
      case "disabled by the host": host.hostWriteMSR(0, MSR.systemTime, 0)
      default: host.replug(0)
      }
      host.tellStopped(state == "never registered" ? 2 : 0, errno: Errno.none)
    }
    try expectBroken(Self.refuses, history, "whose record is \(state)", "success")
  }

  @Test func anotherErrorIsBroken() throws {
    let history = Self.registered { host in
      host.hostWriteMSR(1, MSR.systemTime, 0)
      host.tellStopped(1, errno: "ENOTTY")
    }
    try expectBroken(Self.refuses, history, "EINVAL from KVM_KVMCLOCK_CTRL for vcpu1", "ENOTTY")
  }

  @Test func theBitComesAtTheEntry() throws {
    try expectHolds(Self.set, Self.told())
    try expectNotTested(Self.set, Self.registered { $0.settleAndLook() })
  }

  @Test func aRefusalWithARecordIsBroken() throws {
    try expectBroken(Self.set, Self.told(errno: "EINVAL"), "success of KVM_KVMCLOCK_CTRL", "EINVAL")
  }

  @Test func aBitThatNeverComesIsBroken() throws {
    let history = Self.told { host, id in host.vcpus[id]?.isToldStopped = false }
    try expectBroken(
      Self.set, history, "bit 1 set in vcpu0's record after KVM_KVMCLOCK_CTRL and an entry",
      "flags 0x1")
  }

  @Test func aBitThatComesBeforeTheEntryIsBroken() throws {
    let history = Self.told { host, id in
      host.records[host.vcpus[id]!.address]?.flags.insert(.guestStopped)
    }
    try expectBroken(
      Self.set, history, "bit 1 clear in vcpu1's record before the entry after", "flags 0x3")
  }

  @Test func theOtherVCPUIsNotTold() throws {
    try expectHolds(Self.one, Self.told())
    let history = Self.told { host, id in
      host.vcpus[1 - id]?.isToldStopped = true
      host.vcpus[1 - id]?.wantsRecord = true
    }
    try expectBroken(
      Self.one, history, "bit 1 clear in vcpu1's record after KVM_KVMCLOCK_CTRL for another vCPU",
      "flags 0x3")
  }

  @Test func oneVCPUAloneShowsNothing() throws {
    let history = Self.registered { host in
      host.tellStopped(0)
      host.settleAndLook()
    }
    try expectNotTested(Self.one, history, "the other of two vCPUs")
  }

  @Test func updatesKeepTheBit() throws {
    let history = Self.registered { host in
      host.tellStopped(0)
      host.settleAndLook()
      Script.updateOften(&host, 0)
    }
    try expectHolds(Self.sticky, history)
    try expectNotTested(Self.clears, history)
  }

  @Test func anUpdateThatLosesTheBitIsBroken() throws {
    let history = Self.registered { host in
      host.tellStopped(1)
      host.settleAndLook()
      host.records[0x11000]?.flags.remove(.guestStopped)
      Script.updateOften(&host, 1)
    }
    try expectBroken(
      Self.sticky, history, "bit 1 set in vcpu1's record over an update", "flags 0x1")
  }

  /// Without an update nothing was kept.
  @Test func looksAtTheSameRecordShowNothing() throws {
    let history = Self.registered { host in
      host.tellStopped(0)
      host.enter(0)
      for _ in 0..<20 { host.look(0) }
    }
    try expectNotTested(Self.sticky, history, "saw 0")
  }

  static func cleared(_ fault: (inout HistoryBuilder) -> Void = { _ in }) -> History {
    registered { host in
      host.tellStopped(0)
      host.settleAndLook()
      host.clearStopped(0)
      host.look(0)
      fault(&host)
      Script.updateOften(&host, 0)
    }
  }

  @Test func whatTheGuestClearedStaysClear() throws {
    try expectHolds(Self.clears, Self.cleared())
  }

  @Test func aBitThatComesBackIsBroken() throws {
    try expectBroken(
      Self.clears, Self.cleared { $0.vcpus[0]?.isToldStopped = true },
      "bit 1 clear in vcpu0's record after the guest cleared it", "flags 0x3")
  }

  static func moved(_ fault: (inout HistoryBuilder) -> Void = { _ in }) -> History {
    registered { host in
      host.tellStopped(0)
      host.settleAndLook()
      fault(&host)
      host.register(0, at: 0x40000)
      Script.updateOften(&host, 0)
    }
  }

  @Test func aFreshRecordComesWithoutIt() throws {
    try expectHolds(Self.moves, Self.moved())
    let again = Self.registered { host in
      host.register(0, at: 0x40000)
      Script.updateOften(&host, 0)
    }
    try expectNotTested(Self.moves, again)
  }

  @Test func aFreshRecordWithTheBitIsBroken() throws {
    let history = Self.moved { $0.records[0x40000] = ClockPage(flags: .guestStopped) }
    try expectBroken(Self.moves, history, "in memory that was fresh", "flags 0x3")
  }

  /// It comes back to a record in which the guest never cleared the bit: that one still has it.
  @Test func anOldRecordKeepsWhatItHad() throws {
    let history = Self.registered { host in
      host.tellStopped(0)
      host.settleAndLook()
      host.register(0, at: 0x40000)
      Script.updateOften(&host, 0)
      host.register(0, at: 0x10000)
      Script.updateOften(&host, 0)
    }
    for id in [Self.moves, Self.sticky, Self.clears, Self.set] {
      #expect(try !judge(id, history).isBroken, "\(id)")
    }
  }

  @Test func aRequestWithoutARecordIsObserved() throws {
    let history = Self.registered(Script.leavePending)
    #expect(
      try judge(Self.pending, history)
        == .observed(
          value:
            "bit 1 comes up in the record registered next: the request outlives the record"))
    let forgotten = Self.registered { host in
      host.tellStopped(0)
      host.vcpus[0]?.isToldStopped = false
      host.hostWriteMSR(0, MSR.systemTime, 0)
      host.register(0, at: 0x50000)
    }
    #expect(
      try judge(Self.pending, forgotten)
        == .observed(value: "bit 1 does not come up in the record registered next (flags 0x1)"))
    try expectNotTested(Self.pending, Self.told(), "no record was taken away")
  }
}
