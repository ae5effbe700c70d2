import Testing

@testable import ABIChecker

@Suite struct XenTests {
  static let same = "XEN-TIME-IS-KVMCLOCK"
  static let follows = "XEN-FOLLOWS-SETCLOCK"
  static let noStep = "XEN-NO-STEP-BACK"
  static let version = "XEN-VERSION"
  static let flag = "XEN-UNSTABLE-FLAG"
  static let wall = "XEN-WALL-VALUE"
  static let stopped = "XEN-NO-GUEST-STOPPED"

  static let history = Script.history(of: .xen)

  @Test func oneClockUnderTwoNamesHolds() throws {
    for id in [
      Self.same, Self.follows, Self.noStep, Self.version, Self.flag, Self.wall, Self.stopped,
    ] {
      try expectHolds(id, Self.history)
    }
  }

  static let byHostAddress = "XEN-HOST-ADDRESS"

  @Test func anAddressOfUserSpaceIsAsGoodAsOneOfAGuest() throws {
    let sound = Script.history(of: .xenHostAddress)
    try expectHolds(Self.byHostAddress, sound)
    try expectBroken(
      Self.byHostAddress,
      sound.changed { $0.changeXenRecord(of: 1, in: .info) { $0.systemTime &+= 3000 } },
      "the time of vcpu1's vcpu_info less kvmclock", "too high")
    var host = HistoryBuilder(.xenHostAddress)
    host.machine(0, 1)
    host.bracketed(.host) { _ in [.returned(request: "KVM_XEN_VCPU_SET_ATTR", result: -14)] }
    try expectBroken(
      Self.byHostAddress, host.history,
      "KVM_XEN_VCPU_SET_ATTR to take an address of user space", "errno 14")
    var unread = sound
    unread.events.removeAll {
      if case .xenSharedInfoSet(_, false) = $0.action { true } else { false }
    }
    try expectNotTested(Self.byHostAddress, unread, "layouts: did not see 32-bit")
  }

  @Test(arguments: [3, -3] as [Int64], OtherClocks.XenRecord.allCases)
  func aXenRecordThatIsNotKvmclockIsBroken(
    error: Int64, record: OtherClocks.XenRecord
  ) throws {
    let history = Self.history.changed {
      $0.changeXenRecord(of: 1, in: record) {
        $0.systemTime &+= UInt64(bitPattern: 1000 * error)
      }
    }
    try expectBroken(
      Self.same, history, "the time of vcpu1's \(record.rawValue) less kvmclock",
      "too \(error > 0 ? "high" : "low")")
  }

  @Test(arguments: [Self.same, Self.follows, Self.noStep, Self.version, Self.flag, Self.stopped])
  func aRecordThatNobodyLookedAtIsNotTested(id: String) throws {
    var history = Self.history
    history.events.removeAll {
      guard case .memory(let address, _) = $0.action else { return false }
      return [0, 1].contains { address.value == HistoryBuilder.xenRecord(.info, of: $0) }
    }
    try expectNotTested(id, history, "Xen records: did not see vcpu_info")
  }

  @Test func aWallClockIsOneObservation() throws {
    var history = Self.history
    let set = history.events.indices.filter {
      if case .xenSharedInfoSet = history.events[$0].action { true } else { false }
    }
    history.events.removeSubrange(set[2]...)
    try expectNotTested(Self.wall, history, "saw 2 wall clocks")
  }

  @Test(arguments: [0xc00, 0x900] as [UInt64])
  func aWallClockOfSharedInfoThatIsAnotherIsBroken(offset: UInt64) throws {
    let address = HistoryBuilder.sharedInfo + offset
    let layout = offset == 0xc00 ? "64-bit" : "32-bit"
    let places = [(4, "too"), (8, "too"), (offset == 0xc00 ? 0x0c : 0x24, "too high")]
    for (place, words) in places {
      let history = Self.history.changed {
        $0.changeMemory(address) { bytes in bytes[place + 2] ^= 0x40 }
      }
      try expectBroken(Self.wall, history, "a \(layout) shared_info", words)
    }
    try expectBroken(
      Self.wall, Self.history.changed { $0.changeMemory(address) { $0[0] |= 1 } },
      "an even version of shared_info's wall clock")
    try expectBroken(
      Self.wall, Self.history.changed { $0.changeMemory(address) { $0[11] = 0xa5 } },
      "nsec of shared_info's wall clock below 10^9")
    // Without the upper half of the seconds there is no wall clock of this layout.
    try expectNotTested(
      Self.wall, Self.history.changed { $0.changeMemory(address) { $0.removeLast(4) } },
      "saw 2 wall clocks")
  }

  @Test func aRateOfItsOwnIsBroken() throws {
    let history = Self.history.changed {
      $0.changeXenRecord(of: 0) { $0.tscToSystemMultiplier += $0.tscToSystemMultiplier / 1000 }
    }
    try expectBroken(Self.same, history, "both hold one pair", "too high")
  }

  @Test func aXenRecordThatStaysBehindASettingIsBroken() throws {
    let history = Self.history.changedSinceSetClock {
      $0.changeXenRecord(of: 1) { $0.systemTime &-= 1_000_000_000 }
    }
    try expectBroken(
      Self.follows, history, "the time of vcpu1's vcpu_time_info less the value set",
      "1000.0 ms) too low")
  }

  @Test func aStepBackIsBroken() throws {
    var looks: UInt64 = 0
    let history = Self.history.changed {
      $0.changeXenRecord(of: 0) {
        $0.systemTime &-= looks / 2 * 100_000
        looks += 1
      }
    }
    try expectBroken(Self.noStep, history, "the time of vcpu0's vcpu_time_info at or above")
  }

  @Test func aVersionThatIsOddOrStaysIsBroken() throws {
    try expectBroken(
      Self.version, Self.history.changed { $0.changeXenRecord(of: 1) { $0.version |= 1 } },
      "an even version in vcpu1's vcpu_time_info")
    try expectBroken(
      Self.version, Self.history.changed { $0.changeXenRecord(of: 1) { $0.version = 2 } },
      "a version above 2 in vcpu1's vcpu_time_info, which changed")
  }

  @Test func aFlagThatHidesNothingIsBroken() throws {
    let history = Self.history.changed { $0.changeXenRecord(of: 0) { $0.flags.insert(.tscStable) } }
    try expectBroken(Self.flag, history, "bit 0 of vcpu0's vcpu_time_info hidden", "flags 0x1")
  }

  @Test func aBitThatIsHiddenWithoutTheFlagIsBroken() throws {
    let history = Self.history.changed { $0.changeXenRecord(of: 0) { $0.flags.remove(.tscStable) } }
    try expectBroken(Self.flag, history, "as in its kvmclock record", "kvmclock's has bit 0")
  }

  @Test func aFlagThatTakesKvmclocksBitIsBroken() throws {
    var isSet = false
    let history = Self.history.changed {
      if case .xenUnstableSet(let value) = $0 { isSet = value }
      guard isSet, case .read(let address, let ring, var reading, let settled) = $0 else { return }
      reading.page.flags.remove(.tscStable)
      $0 = .read(address: address, ring: ring, reading: reading, settled: settled)
    }
    try expectBroken(Self.flag, history, "bit 0 set in vcpu0's record", "the flag is about Xen's")
  }

  @Test(arguments: OtherClocks.XenRecord.allCases)
  func aXenRecordThatSaysThatItsGuestWasStoppedIsBroken(record: OtherClocks.XenRecord) throws {
    let history = Self.history.changed {
      $0.changeXenRecord(of: 1, in: record) { $0.flags.insert(.guestStopped) }
    }
    try expectBroken(
      Self.stopped, history, "bit 1 clear in vcpu1's \(record.rawValue)", "flags 0x3")
    var untold = Self.history
    let told = untold.events.firstIndex {
      if case .toldStopped = $0.action { true } else { false }
    }!
    untold.events.removeSubrange(told...)
    try expectNotTested(Self.stopped, untold, "did not see vcpu0, vcpu1")
  }

  @Test func withoutTheFlagTheRestIsJudged() throws {
    var history = Self.history
    let set = history.events.firstIndex { $0.action == .xenUnstableSet(true) }!
    history.events.removeSubrange(set...)
    for id in [Self.same, Self.follows, Self.noStep, Self.version] { try expectHolds(id, history) }
    try expectNotTested(Self.flag, history, "did not see hidden")
  }
}
