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
        // Every record is updated, the other vCPU's too.
        host.setClock(77_777_777_777)
        host.settleAndLook()
        host.clearStopped(id)
        host.look(id)
      }
    }
  }

  @Test func eachStateWithoutARecordRefuses() throws {
    try expectHolds(Self.refuses, Script.history(of: .guestStopped))
    try expectNotTested(Self.refuses, Self.told(), "did not see never registered")
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
    try expectHolds(Self.set, Script.history(of: .guestStopped))
    try expectNotTested(Self.set, Self.told(), "saw 0 records after the entry without bit 0")
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
      host.setClock(77_777_777_777)
      for _ in 0..<2 { host.settleAndLook() }
    }
    try expectNotTested(Self.one, history, "updated records of other vCPUs: did not see vcpu0")
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
            "bit 1 is set in the record registered next: the request outlives the record"))
    let forgotten = Self.registered { host in
      host.tellStopped(0)
      host.vcpus[0]?.isToldStopped = false
      host.hostWriteMSR(0, MSR.systemTime, 0)
      host.register(0, at: 0x50000)
    }
    #expect(
      try judge(Self.pending, forgotten)
        == .observed(value: "bit 1 is clear in the record registered next (flags 0x1)"))
    try expectNotTested(Self.pending, Self.told(), "no record was disabled")
  }
}

extension GuestStoppedTests {
  /// INIT was not tried: either the host cannot do it and says so, or it is missing.
  @Test func withoutINITTheRefusalsAreNotTested() throws {
    var history = Script.history(of: .guestStopped)
    while case .toldStopped = history.events.removeLast().action {}
    try expectNotTested(Self.refuses, history, "reset by INIT")
    var lacking = history.events[0]
    lacking.number = history.events.count + 1
    lacking.action = .lacking(what: "INIT", evidence: "no irqchip")
    history.events.append(lacking)
    guard case .holds(let evidence, _) = try judge(Self.refuses, history) else {
      Issue.record("\(try judge(Self.refuses, history))")
      return
    }
    #expect(evidence.contains("reset by INIT") && evidence.contains("no irqchip"))
  }

  /// The other vCPU's record was not written since: nothing could have shown.
  @Test func aRecordThatWasNotUpdatedShowsNothingOfAnother() throws {
    let history = Self.registered { host in
      for id in [0, 1] {
        host.tellStopped(id)
        for each in [0, 1] { host.enter(each) }
        for each in [0, 1] { host.look(each) }
        host.clearStopped(id)
        host.look(id)
      }
    }
    try expectNotTested(Self.one, history, "vcpu0")
  }

  /// The guest itself set the bit in the memory that it registers then: KVM keeps it.
  @Test func memoryThatTheGuestWroteIsNotFresh() throws {
    let history = Self.moved { host in
      host.records[0x40000] = ClockPage(flags: .guestStopped)
      host.bracketed(.vcpu(0)) { _ in [.poked(address: 0x4001c, value: 0x200)] }
    }
    #expect(try !judge(Self.moves, history).isBroken)
  }

  /// A record that overlaps one that had the bit.
  @Test func memoryOfAnotherRecordIsNotFresh() throws {
    let history = Self.registered { host in
      host.register(0, at: 0x40008)
      host.tellStopped(0)
      host.settleAndLook()
      host.records[0x40000] = ClockPage(flags: .guestStopped)
      host.register(0, at: 0x40000)
      Script.updateOften(&host, 0)
    }
    #expect(try !judge(Self.moves, history).isBroken)
  }

  /// They share it: what one is told both read, what one clears is clear for both.
  @Test func twoVCPUsWithOneRecordAccuseNobody() throws {
    let history = Self.registered { host in
      host.register(1, at: 0x10000)
      for id in [0, 1] {
        host.look(1)
        host.tellStopped(id)
        host.look(1 - id)
        Script.updateOften(&host, 1)
        Script.updateOften(&host, 0)
        host.clearStopped(1 - id)
        Script.updateOften(&host, 0)
        host.tellStopped(1 - id)
        host.enter(1 - id)
        host.look(id)
      }
    }
    for id in [Self.set, Self.one, Self.sticky, Self.clears, Self.moves] {
      #expect(try !judge(id, history).isBroken, "\(id)")
    }
  }

  /// Each machine begins anew.
  @Test func aSecondMachineKnowsNothingOfTheFirst() throws {
    let history = Self.registered { host in
      host.tellStopped(0)
      host.machine(0, 1)
      for id in [0, 1] { host.register(id) }
      Script.updateOften(&host, 0)
      Script.updateOften(&host, 1)
    }
    for id in [Self.set, Self.one, Self.sticky, Self.clears, Self.moves, Self.pending] {
      try expectNotTested(id, history)
    }
  }

  // MARK: A record that no slot holds

  static let survives = "GUESTSTOPPED-SURVIVES-UNREACHABLE"

  @Test func aRequestThatIsLostWithTheMemoryIsBroken() throws {
    var history = Script.history(of: .stoppedUnreachable)
    for at in history.events.indices {
      guard case .page(let vcpu, let address, var page) = history.events[at].action else {
        continue
      }
      page.flags.remove(.guestStopped)
      history.events[at].action = .page(vcpu: vcpu, address: address, page: page)
    }
    try expectBroken(
      Self.survives, history, "bit 1 set in vcpu0's record, which lay in no slot", "flags 0x1",
      "in memory that the host may not read", "in memory that the host may not write")
  }

  /// The vCPU entered before the slot was deleted, so the request was delivered, to memory that is gone; or nothing asked
  /// for an update after the memory came back, so the record may be what it was.
  @Test(arguments: [true, false]) func whatIsNotDueIsNotJudged(wasDelivered: Bool) throws {
    var host = HistoryBuilder(.stoppedUnreachable)
    host.machineInMemory()
    host.setSlot(1, at: 0x1000_0000, 1)
    host.register(0, at: 0x1000_0000)
    host.tellStopped(0)
    if wasDelivered { host.enter(0) }
    host.removeSlot(1)
    if !wasDelivered { host.enter(0) }
    host.setSlot(1, at: 0x1000_0000, 2)
    if wasDelivered {
      host.setClock(3_600_000_000_000)
      host.enter(0)
    }
    host.look(0)
    try expectNotTested(Self.survives, host.history, "did not see no slot, told before")
  }

  @Test func bothRequestsAreNeeded() throws {
    var history = Script.history(of: .stoppedUnreachable)
    var isGone = false
    history.events.removeAll { event in
      switch event.action {
      case .slotDeleted: isGone = true
      case .slotSet: isGone = false
      case .toldStopped: return isGone
      default: break
      }
      return false
    }
    try expectNotTested(Self.survives, history, "no slot, told after")
  }
}
