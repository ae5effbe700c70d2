import PVClock
import Testing

@testable import ABIChecker

@Suite struct RegistrationTests {
  /// Two pages that held 0xa5, registered; `change` is done to what the guest saw of the second.
  static func enabled(_ change: (inout ClockPage) -> Void = { _ in }) -> HistoryBuilder {
    var host = HistoryBuilder()
    host.machine(0, 1)
    for id in [0, 1] {
      host.fill(UInt64(0x10000 + id * 0x1000), count: 32)
      host.register(id)
    }
    host.amend(0, change)
    return host
  }

  static let stale: UInt64 = 0xa5a5_a5a5_a5a5_a5a5

  @Test func aRecordIsValidAtOnce() throws {
    try expectHolds("SYSTIME-ENABLE", Self.enabled().history)
  }

  @Test func aRecordThatIsNotYetValidIsBroken() throws {
    let page = ClockPage(bytes: [UInt8](repeating: 0xa5, count: 32))!
    try expectBroken(
      "SYSTIME-ENABLE", Self.enabled { $0 = page }.history, "version 2779096485",
      "system_time \(Self.stale)")
    try expectBroken(
      "SYSTIME-ENABLE", Self.enabled { $0.version = 3 }.history, "an even version", "version 3")
    try expectBroken(
      "SYSTIME-ENABLE", Self.enabled { $0.systemTime = Self.stale }.history, "\(Self.stale)")
    try expectBroken(
      "SYSTIME-ENABLE", Self.enabled { $0.tscTimestamp = Self.stale }.history, "\(Self.stale)")
    try expectBroken(
      "SYSTIME-ENABLE", Self.enabled { $0.tscToSystemMultiplier = 0 }.history,
      "tsc_to_system_mul 0x0")
  }

  @Test func aRefusedWriteIsBroken() throws {
    var host = Self.enabled()
    let write = try #require(
      host.events.lastIndex { if case .wroteMSR = $0.action { true } else { false } })
    host.events[write].action = .wroteMSR(
      msr: 0x4b56_4d01, value: 0x11001, fault: Fault(vector: 13, errorCode: 0, address: 0x8234))
    try expectBroken("SYSTIME-ENABLE", host.history, "0x4b564d01", "exception vector 13")
  }

  @Test func aGuestThatGaveUpOnAnOddVersionIsBroken() throws {
    var host = Self.enabled()
    guard
      case .read(let address, let ring, let reading, _) = host.events[host.events.count - 1].action
    else { return }
    host.events[host.events.count - 1].action = .read(
      address: address, ring: ring, reading: reading, settled: false)
    try expectBroken("SYSTIME-ENABLE", host.history, "version")
  }

  @Test func onlyAPageThatHeldTheFillPatternCounts() throws {
    var host = HistoryBuilder()
    host.machine(0)
    host.fill(0x10000, count: 32)
    for _ in 0..<5 { host.register(0) }
    try expectNotTested("SYSTIME-ENABLE", host.history, "saw 1", "needs at least 2")
    host.fill(0x10000, count: 32)
    host.host(.filled(address: 0x10000, count: 32, byte: 0))
    host.register(0)
    try expectNotTested("SYSTIME-ENABLE", host.history, "saw 1", "needs at least 2")
  }

  /// Time goes on over writes by both vCPUs; `fault` is what the host does at a write.
  static func rewrites(
    _ fault: (inout HistoryBuilder, Int) -> Void = { _, _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.rewrite)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.wait(milliseconds: 70)
    for turn in 0..<4 {
      for id in [0, 1] {
        host.read(id)
        host.wait(milliseconds: 20)
        fault(&host, id)
        host.register(id, at: UInt64(0x10000 + id * 0x1000 + turn / 2 * 0x200))
      }
    }
    return host
  }

  @Test func timeCarriesOnOverWrites() throws {
    try expectHolds("SYSTIME-REWRITE-KEEPS-TIME", Self.rewrites().history)
  }

  /// What b7e60c5aedd2 did: a write by vCPU 0 starts the clock at 0.
  @Test func aRestartOnAWriteByVCPU0IsBroken() throws {
    let history = Self.rewrites { host, id in if id == 0 { host.restartClock() } }.history
    try expectBroken(
      "SYSTIME-REWRITE-KEEPS-TIME", history, "the advance of vcpu0's reading from 70",
      "a write of the MSR",
      "(90.0 ms) too low")
  }

  @Test(arguments: [-200_000, 5_000_000, 3_600_000_000_000] as [Int64])
  func aStepAtAWriteIsBroken(step: Int64) throws {
    let history = Self.rewrites { host, _ in host.stepClock(by: step) }.history
    try expectBroken("SYSTIME-REWRITE-KEEPS-TIME", history, "[20", "too ")
  }

  @Test func aClockThatStoodStillIsBroken() throws {
    let history = Self.rewrites { host, _ in host.stepClock(by: -20_000_000) }.history
    try expectBroken("SYSTIME-REWRITE-KEEPS-TIME", history, "[20", "(20.0 ms) too low")
  }

  @Test func aSettingOfTheClockBetweenTwoReadingsIsNoStep() throws {
    let history = Self.rewrites { host, _ in host.setClock(12) }.history
    try expectNotTested("SYSTIME-REWRITE-KEEPS-TIME", history)
  }

  @Test func timeCarriesOnOver2To64() throws {
    var host = HistoryBuilder(.rewrite)
    host.machine(0)
    host.register(0)
    host.setClock(0 &- 30_000_000)
    for turn in 0..<7 {
      host.read(0)
      host.wait(milliseconds: 10)
      host.register(0, at: UInt64(0x10000 + turn / 4 * 0x200))
    }
    try expectNotTested("SYSTIME-REWRITE-KEEPS-TIME", host.history, "different vCPUs (vcpu0)")
    host.read(0)
    host.restartClock()
    host.register(0)
    try expectBroken("SYSTIME-REWRITE-KEEPS-TIME", host.history, "too ")
  }

  @Test func anotherMachineIsAnotherClock() throws {
    var host = HistoryBuilder(.rewrite)
    for _ in 0..<9 {
      host.machine(0)
      host.register(0)
      host.wait(milliseconds: 20)
    }
    try expectNotTested("SYSTIME-REWRITE-KEEPS-TIME", host.history)
  }

  /// 50 ms lost between the reading and the bracket's end hide the step, and are said to.
  @Test func aWideBracketIsInconclusive() throws {
    var host = HistoryBuilder(.rewrite)
    host.machine(0)
    host.register(0)
    host.bracket = 50_000_000
    for _ in 0..<8 {
      host.register(0)
      host.stepClock(by: -30_000_000)
    }
    try expectInconclusive("SYSTIME-REWRITE-KEEPS-TIME", host.history, "50.0 ms", "10.0 ms")
  }

  /// Outside is outside, however wide the bracket.
  @Test func aStepBeyondAWideBracketIsBroken() throws {
    var host = HistoryBuilder(.rewrite)
    host.machine(0)
    host.register(0)
    host.setClock(86_400_000_000_000)
    host.bracket = 50_000_000
    host.read(0)
    host.restartClock()
    host.register(0)
    try expectBroken("SYSTIME-REWRITE-KEEPS-TIME", host.history, "86400025", "-86400000")
  }
}

@Suite struct StormTests {
  static func storm(
    writes: UInt64 = 2000, reads: UInt64 = 2000, source: SimulatedTime.Source = .tsc,
    _ change: (inout LoopResult) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.storm, source: source)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.together([(0, "rewriter"), (1, "sampler")], reads: reads) { result in
      if result.versions > 0 { result.reads = writes }
      change(&result)
    }
    return host
  }

  @Test func aReaderThatWentBackIsBroken() throws {
    let history = Self.storm {
      ($0.backwards, $0.worst, $0.worstBefore) = (3, -1234, 7_000_000)
    }.history
    try expectBroken(
      "SYSTIME-REWRITE-STORM", history, "3 steps back", "1234 ns", "7000000 ns", "TSC")
  }

  @Test func aQuietStormHolds() throws {
    try expectHolds("SYSTIME-REWRITE-STORM", Self.storm().history)
    try expectHolds("SYSTIME-REWRITE-STORM", Self.storm(writes: 500).history)
  }

  @Test func tooFewWritesOrReadingsAreInconclusive() throws {
    try expectInconclusive(
      "SYSTIME-REWRITE-STORM", Self.storm(writes: 498).history, "498 writes", "needs 499")
    try expectInconclusive(
      "SYSTIME-REWRITE-STORM", Self.storm(reads: 999).history, "999 readings")
  }

  /// What ran one after the other saw nothing of each other.
  @Test func writesThatFellBetweenNoReadingsAreInconclusive() throws {
    let apart = Self.storm { $0.witnessed = $0.witnessed.map { _ in 49 } }
    try expectInconclusive("SYSTIME-REWRITE-STORM", apart.history, "49 changes")
    var host = apart
    host.host(.lacking(what: "two CPUs to run on", evidence: "sched_getaffinity allows [3]"))
    try expectNotTested("SYSTIME-REWRITE-STORM", host.history, "two CPUs", "49 changes")
  }

  @Test func withoutTheMasterClockAStepIsNoFault() throws {
    try expectNotTested(
      "SYSTIME-REWRITE-STORM", Self.storm(source: .hpet) { $0.worst = -5000 }.history,
      "PVCLOCK_TSC_STABLE_BIT")
  }
}
