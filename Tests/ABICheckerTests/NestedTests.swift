import PVClock
import Testing

@testable import ABIChecker

@Suite struct NestedTests {
  static let record = "NESTED-RECORD-IS-L1"
  static let tsc = "NESTED-TSC-IS-L1"

  static func history(whileL2Runs act: (inout HistoryBuilder) -> Void = { _ in }) -> History {
    var host = HistoryBuilder(.nested)
    Script.nested(&host, whileL2Runs: act)
    return host.history
  }

  private static func write(in history: History) throws -> Event {
    try #require(
      history.events.first {
        if case .hostWroteMSR(_, Hex(MSR.tsc), _) = $0.action { true } else { false }
      })
  }

  @Test func aRecordOfL1Holds() throws {
    for id in [Self.record, Self.tsc] { try expectHolds(id, Self.history()) }
  }

  @Test func withoutTheMasterClockItHolds() throws {
    var host = HistoryBuilder(.nested, source: .hpet)
    Script.nested(&host)
    try expectHolds(Self.record, host.history)
    try expectNotTested(Self.tsc, host.history, "the host does not run on its TSC")
  }

  /// Linux before e79f245ddec1: made while L2 runs, the record has L2's TSC.
  @Test(arguments: [Script.l2Offset, 1 << 22, 0 &- 1 << 22] as [UInt64])
  func aRecordThatHoldsL2sTSCIsBroken(offset: UInt64) throws {
    let history = Self.history(whileL2Runs: { host in
      host.records[host.vcpus[0]!.address]?.tscTimestamp &+= offset
    })
    try expectBroken(Self.record, history, "made the record due while L2 ran", "too")
  }

  /// Right for whoever runs when it is read, and so wrong for L1.
  @Test func aRecordThatSuitsL2AloneIsBroken() throws {
    var host = HistoryBuilder(.nested)
    Script.nested(&host)
    var history = host.history
    for index in history.events.indices {
      guard case .readInL2(let address, var reading, let settled) = history.events[index].action
      else { continue }
      reading.page.tscTimestamp &+= Script.l2Offset
      history.events[index].action = .readInL2(
        address: address, reading: reading, settled: settled)
    }
    try expectBroken(Self.record, history, "holds L1's TSC")
  }

  @Test func aHostThatIsGivenL2sTSCIsBroken() throws {
    let history = Self.history().changed {
      guard case .hostReadMSR(let vcpu, let msr, var value) = $0 else { return }
      value.value &+= Script.l2Offset
      $0 = .hostReadMSR(vcpu: vcpu, msr: msr, value: value)
    }
    try expectBroken(Self.tsc, history, "L1's TSC on vcpu0 by KVM_GET_MSRS", "cycles more")
  }

  @Test func anAttributeThatTellsL2sOffsetIsBroken() throws {
    var inL2 = false
    let history = Self.history().changed {
      switch $0 {
      case .ranL2: inL2 = true
      case .leftL2: inL2 = false
      case .tscOffset(let vcpu, let cycles) where inL2:
        $0 = .tscOffset(vcpu: vcpu, cycles: cycles &+ Script.l2Offset)
      default: break
      }
    }
    try expectBroken(Self.tsc, history, "L1's offset, while L2 runs")
  }

  /// A move of L1's TSC that forgets L2's offset, or that L1 does not keep.
  @Test(arguments: [true, false])
  func anOffsetThatIsLostIsBroken(isL2s: Bool) throws {
    var hasMoved = false
    let history = Self.history().changed {
      switch $0 {
      case .setTSCOffset(_, 1 << 45): hasMoved = true
      case .leftL2 where isL2s: hasMoved = false
      case .readInL2(let address, var reading, let settled) where hasMoved && isL2s:
        reading.tsc &-= Script.l2Offset
        $0 = .readInL2(address: address, reading: reading, settled: settled)
      case .read(let address, let ring, var reading, let settled) where hasMoved && !isL2s:
        reading.tsc &+= Script.l2Offset
        $0 = .read(address: address, ring: ring, reading: reading, settled: settled)
      default: break
      }
    }
    try expectBroken(Self.tsc, history, "by RDTSC in \(isL2s ? "L2" : "L1")")
  }

  /// KVM_SET_MSRS of IA32_TSC that sets L2's TSC: L1's is another by the offset between them.
  @Test func aWriteThatSetsL2sTSCIsBroken() throws {
    var isWrong = false
    let history = Self.history().changed {
      switch $0 {
      case .hostWroteMSR(_, Hex(MSR.tsc), _): isWrong = true
      case .setTSCOffset: isWrong = false
      case .tscOffset(let vcpu, let cycles) where isWrong:
        $0 = .tscOffset(vcpu: vcpu, cycles: cycles &- Script.l2Offset)
      case .readInL2(let address, var reading, let settled) where isWrong:
        reading.tsc &-= Script.l2Offset
        $0 = .readInL2(address: address, reading: reading, settled: settled)
      default: break
      }
    }
    try expectBroken(Self.tsc, history, "KVM_VCPU_TSC_OFFSET of vcpu0, or up to")
    try expectBroken(Self.tsc, history, "by RDTSC in L2")
  }

  /// The value counts from an instant within the call, and no other.
  @Test(arguments: [(-1, true), (0, false), (1, true)])
  func aWriteCountsFromWithinTheCall(beyond: Int, isBroken: Bool) throws {
    let history = Self.history()
    let write = try Self.write(in: history)
    let least: UInt64 = (1 << 48) &- write.ended.tsc
    let most: UInt64 = (1 << 48) &- write.began.tsc
    var isNext = false
    let moved = history.changed {
      switch $0 {
      case .hostWroteMSR(_, Hex(MSR.tsc), _): isNext = true
      case .tscOffset(let vcpu, _) where isNext:
        $0 = .tscOffset(vcpu: vcpu, cycles: beyond < 0 ? least - 1 : most + UInt64(beyond))
        isNext = false
      default: break
      }
    }
    if isBroken {
      try expectBroken(Self.tsc, moved, "KVM_VCPU_TSC_OFFSET of vcpu0, or up to")
    } else {
      try expectHolds(Self.tsc, moved)
    }
  }

  /// KVM takes a value near the TSC for an attempt to match TSCs, and keeps the offset.
  @Test func aWriteOfWhatTheTSCShowsTellsNothing() throws {
    let history = Self.history()
    let shown: UInt64 = (1 << 44) + (try Self.write(in: history)).began.tsc
    let near = history.changed {
      if case .hostWroteMSR(let vcpu, Hex(MSR.tsc), _) = $0 {
        $0 = .hostWroteMSR(vcpu: vcpu, msr: Hex(MSR.tsc), value: Hex(shown))
      }
    }
    try expectNotTested(Self.tsc, near, "did not see KVM_SET_MSRS of IA32_TSC")
  }

  @Test func eachReasonAndEachViewIsNeeded() throws {
    var host = HistoryBuilder(.nested)
    host.machine(0, 1)
    for id in [0, 1] {
      host.setTSCOffset(id, 1 << 44)
      host.register(id)
    }
    host.enterL2(0, tscOffset: 5)
    host.setClock(1 << 50)
    host.enter(0)
    for _ in 0..<9 { host.readInL2(0) }
    host.leaveL2(0)
    host.read(0)
    try expectNotTested(Self.record, host.history, "did not see KVM_SET_MSRS")
    try expectNotTested(Self.tsc, host.history, "did not see KVM_GET_MSRS")
  }

  /// There are backends that take an offset and ignore it.
  @Test func aHostThatKeepsNoOffsetIsNotTested() throws {
    let history = Self.history().changed {
      if case .tscOffset(let vcpu, _) = $0 { $0 = .tscOffset(vcpu: vcpu, cycles: 0) }
    }
    try expectNotTested(Self.tsc, history, "of vcpu0 that was set in L1 read back")
  }

  @Test func aHostWithoutNestingIsNotTested() throws {
    var host = HistoryBuilder(.nested)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.host(.lacking(what: "nested virtualization", evidence: "neither SVM nor VMX"))
    for id in [Self.record, Self.tsc] {
      try expectNotTested(id, host.history, "neither SVM nor VMX")
    }
  }

  /// What cannot have happened blames nobody.
  @Test func whoReadsIsInThatGuest() {
    let history = Self.history()
    #expect(history.impossibility == nil)
    let without = history.changed { if case .ranL2 = $0 { $0 = .entered } }
    #expect(without.impossibility?.reason == "vcpu0 did not run L2")
    let twice = history.changed { if case .leftL2 = $0 { $0 = .entered } }
    #expect(twice.impossibility?.reason == "vcpu0 ran L2, and L1 does not read then")
    let again = history.changed {
      if case .readInL2 = $0 { $0 = .ranL2(tscOffset: 5) }
    }
    #expect(again.impossibility?.reason == "vcpu0 ran L2 already")
  }
}
