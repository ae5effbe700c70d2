import Foundation
import PVClock
import Testing

@testable import ABIChecker

@Suite struct CodingTests {
  static func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }

  static func read<Value: Decodable>(_: Value.Type, _ json: String) throws -> Value {
    try JSONDecoder().decode(Value.self, from: Data(json.utf8))
  }

  static func event(_ action: Action, by actor: Actor = .vcpu(0)) -> Event {
    Event(
      number: 7, actor: actor, began: Instant(tsc: 1, raw: 3), ended: Instant(tsc: 2, raw: .max),
      action: action)
  }

  static let page = ClockPage(
    version: .max, pad0: 1, tscTimestamp: .max, systemTime: .max - 1, tscToSystemMultiplier: .max,
    tscShift: -128, flags: .reserved, pad: .max)
  static let reading = Reading(tsc: .max, page: page)
  static let fault = Fault(vector: 13, errorCode: .max, address: .max)
  static let result = LoopResult(
    reads: .max, backwards: 1, beyond: 2, excess: .max, negative: 3, worst: .min, unstable: 4,
    versions: 5,
    minimum: .max, witnessed: .max, first: reading, last: Reading(tsc: 0, page: ClockPage()),
    worstBefore: 6,
    worstAfter: reading)

  static let watch = WatchResult(
    reads: .max, odd: 1, torn: 2, tornPair: [page, ClockPage()],
    stretches: [Stretch(page: page, firstTSC: 0, lastTSC: .max, reads: .max)], dropped: .max)
  static let race = RaceResult(
    reads: .max, foreign: 1, unstable: 2, versions: 3, backwards: 4, worst: .min, worstBefore: 5,
    worstBeforeTSC: 6, worstAfter: reading, first: reading, last: reading)

  /// Each case once at least, with the ends of its numbers.
  static let actions: [Action] = [
    .vmCreated, .vcpuCreated(vcpu: .max), .featuresSet(vcpu: 0, features: Hex(UInt64.max)),
    .booted(vcpu: 1, guest: "agent", mode: .real), .booted(vcpu: 1, guest: "", mode: .protected),
    .booted(vcpu: 1, guest: "rewriter", mode: .long),
    .replugged(vcpu: 0, how: .initialized(by: .max)), .replugged(vcpu: 1, how: .userSpace),
    .filled(address: 0, count: .max, byte: 0xa5), .poked(address: 0x10000, value: 0xffff_ffff),
    .msrIndexList(indices: []), .msrIndexList(indices: [0x11, 0x12]),
    .supportedCPUID(function: 0x4000_0001, eax: 1, ebx: 2, ecx: 3, edx: 4),
    .capability(name: "KVM_CAP_ADJUST_CLOCK", value: .min), .tscKHz(vcpu: 0, kHz: .max),
    .tscOffset(vcpu: 0, cycles: .max),
    .getClock(ClockRecord(clock: .max, flags: .max, realtime: .max, hostTSC: .max)),
    .setClock(ClockRecord(clock: 0)), .hostWroteMSR(vcpu: 0, msr: 0x12, value: 1),
    .hostReadMSR(vcpu: 0, msr: 0x4b56_4d01, value: 0),
    .hostClock(name: "CLOCK_REALTIME", nanoseconds: .max), .memory(address: 1, bytes: HexBytes([])),
    .memory(address: 1, bytes: HexBytes(Array(0...255))),
    .page(vcpu: 0, address: 0x10000, page: page), .entered,
    .wroteMSR(msr: 0x12, value: 1, fault: nil), .wroteMSR(msr: 0x12, value: 1, fault: fault),
    .readMSR(msr: 0x12, value: 1, fault: nil), .readMSR(msr: 0x12, value: 1, fault: fault),
    .read(address: 0, ring: 3, reading: reading, settled: true),
    .read(address: 0, ring: 0, reading: reading, settled: false),
    .looped(guest: "schedclock", result: result), .tick,
    .watched(guest: "torn", owner: .max, address: 1, result: watch),
    .watchedWallClock(
      address: 1,
      result: WallWatchResult(
        reads: .max, odd: 1, torn: 2, tornPair: [WallClock(version: .max), WallClock()],
        records: [WallClock(version: 2, seconds: .max, nanoseconds: 999_999_999)])),
    .raced(race: .min, owner: 0, result: race),
    .stormed(msr: 0x12, writes: .max, versions: 0),
    .measured(reads: 1, cycles: .max, bareCycles: 0),
    .moved(vcpu: 0, cpu: .max),
    .lacking(what: "µ", evidence: "returns 0"), .failed(reason: "\\ and \u{1f553}"),
    .disturbed(how: "it was suspended for 7 ms"),
    .hostClock(name: "CLOCK_REALTIME", nanoseconds: .max),
    .hostChanged(what: "clocksource", value: "hpet", error: nil),
    .hostChanged(what: "suspend", value: "freezer", error: "EINVAL"),
    .cpuidWithoutKVM(vcpu: 1),
    .featuresEnforced(vcpu: .max),
    .msrsDenied(msrs: []), .msrsDenied(msrs: [0x11, 0x12]),
    .hostMSRRefused(vcpu: 0, msr: 0x12, value: 1),
    .hostMSRReadRefused(vcpu: .max, msr: 0x12),
    .returned(request: "KVM_GET_CLOCK", result: .max),
    .refused(request: "KVM_SET_CLOCK", because: .noMemory, error: nil),
    .refused(request: "KVM_HAS_DEVICE_ATTR", because: .unknownAttribute, error: "ENXIO"),
    .killed(request: "KVM_RUN"), .protected(memory: .max, access: .read),
    .halted(vcpu: .max),
    .memoryCopied(count: .max),
    .memoryChanged(runs: [MemoryRange(address: .max, count: .min)], except: []),
    .stopped(exit: "shutdown"),
    .slotSet(slot: .min, address: .init(UInt64.max), memory: .max, size: 0x20_0000, flags: 3),
    .slotDeleted(slot: 1), .remapped(memory: 1, shows: .min), .compared(changes: []),
    .compared(changes: [MemoryChange(memory: 2, offset: .max, bytes: [0, 0xa5])]),
    .pagesMissing(memory: .max), .pageSupplied(memory: 1, page: .min),
    .dirtyRings(pages: []),
    .dirtyRings(pages: [
      NamedPage(vcpu: 0, slot: .max, page: .min), NamedPage(vcpu: nil, slot: 1, page: 0),
    ]),
    .dirtyLogCleared(slot: .max, pages: [1]), .dirtyLog(slot: 1, pages: []),
    .dirtyLog(slot: 1, pages: [0, .max]),
    .setTSCOffset(vcpu: 0, cycles: .max), .setTSCOffset(vcpu: .max, cycles: 0),
    .toldStopped(vcpu: 0, errno: .none),
    .saved, .toldStopped(vcpu: .max, errno: "EINVAL"),
    .getClock(ClockRecord(clock: 1, reserved: [0, .max, 0, 0, 1])),
    .setClockRefused(ClockRecord(clock: .max, flags: 1 << 31), error: "EINVAL"),
    .clockCalls(ClockCalls(threads: .max, calls: .max, backwards: .max, worst: .min)),
    .hostClock(name: "CLOCK_REALTIME", nanoseconds: .max),
    .setTSCOffset(vcpu: 0, cycles: .max),
    .setTSCKHz(vcpu: nil, kHz: .max, error: nil), .setTSCKHz(vcpu: 1, kHz: 0, error: "EINVAL"),
    .xenTimeSet(vcpu: .max, address: 0x31000), .xenInfoSet(vcpu: .max, address: 0x31000),
    .xenSharedInfoSet(address: 0x1f000, is64Bit: true), .xenUnstableSet(true),
    .xenUnstableSet(false),
    .vmm(verb: .save, other: .min, failure: nil),
    .vmm(verb: .plug, other: nil, failure: .ended(how: "signal 9")),
    .vmm(verb: .reset, other: nil, failure: .silent(about: "")),
    .vmm(verb: .migrate, other: 1, failure: .refused(reason: "no")),
    .sampled(
      address: 0x211000,
      result: SampleResult(
        reads: .max, worst: .min,
        stretches: [Stretch(page: reading.page, firstTSC: 0, lastTSC: .max, reads: 1)],
        last: reading, asked: 0, seen: .max)),
    .declared(over: .pause, clock: .runsOn),
    .readWallClock(version: 1, seconds: .max, nanoseconds: .max),
    .paired(address: 0x40000, clock: .max, result: .min, bytes: HexBytes([0, 0xa5])),
    .ranL2(tscOffset: .init(UInt64.max)), .leftL2,
    .readInL2(address: 0, reading: reading, settled: true),
    .readInL2(address: 0x10000, reading: reading, settled: false),
  ]

  /// A new case does not compile before it has a number, and fails until it is among `actions`.
  private static func number(of action: Action) -> Int {
    switch action {
    case .vmCreated: 0
    case .vcpuCreated: 1
    case .featuresSet: 2
    case .booted: 3
    case .replugged: 4
    case .filled: 5
    case .poked: 6
    case .msrIndexList: 7
    case .supportedCPUID: 8
    case .capability: 9
    case .tscKHz: 10
    case .tscOffset: 11
    case .getClock: 12
    case .setClock: 13
    case .hostWroteMSR: 14
    case .hostReadMSR: 15
    case .memory: 16
    case .page: 17
    case .entered: 18
    case .wroteMSR: 19
    case .readMSR: 20
    case .read: 21
    case .looped: 22
    case .tick: 23
    case .lacking: 24
    case .failed: 25
    case .disturbed: 26
    case .hostClock: 27
    case .hostChanged: 28
    case .cpuidWithoutKVM: 29
    case .featuresEnforced: 30
    case .msrsDenied: 31
    case .hostMSRRefused: 32
    case .memoryCopied: 33
    case .memoryChanged: 34
    case .stopped: 35
    case .slotSet: 36
    case .slotDeleted: 37
    case .remapped: 38
    case .compared: 39
    case .dirtyLog: 40
    case .setTSCOffset: 41
    case .toldStopped: 42
    case .saved: 43
    case .watched: 44
    case .raced: 45
    case .stormed: 46
    case .measured: 47
    case .moved: 48
    case .setClockRefused: 49
    case .clockCalls: 50
    case .setTSCKHz: 51
    case .watchedWallClock: 52
    case .hostMSRReadRefused: 53
    case .returned: 54
    case .halted: 55
    case .refused: 56
    case .killed: 57
    case .protected: 58
    case .xenTimeSet: 59
    case .xenUnstableSet: 60
    case .paired: 61
    case .dirtyRings: 62
    case .pagesMissing: 63
    case .pageSupplied: 64
    case .vmm: 65
    case .sampled: 66
    case .declared: 67
    case .readWallClock: 68
    case .ranL2: 69
    case .leftL2: 70
    case .readInL2: 71
    case .xenInfoSet: 72
    case .xenSharedInfoSet: 73
    case .dirtyLogCleared: 74
    }
  }

  @Test(arguments: actions) func anEventsLineIsWhatTheEncoderWrites(action: Action) throws {
    for actor in [Actor.host, .vcpu(4095)] {
      let event = Self.event(action, by: actor)
      let line = event.line(did: Array(try Self.json(action).utf8))
      #expect(String(decoding: line, as: UTF8.self) == (try Self.json(event)))
    }
  }

  @Test func everyActionSurvivesTheRoundTrip() throws {
    #expect(Set(Self.actions.map(Self.number)) == Set(0...74))
    for action in Self.actions {
      for actor in [Actor.host, .vcpu(0), .vcpu(.max)] {
        let event = Self.event(action, by: actor)
        #expect(try Self.read(Event.self, Self.json(event)) == event)
      }
    }
  }

  @Test func aHistorySurvivesTheRoundTrip() throws {
    for scenario in ScenarioName.allCases {
      let history = Script.history(of: scenario)
      #expect(try Self.read(Header.self, Self.json(history.header)) == history.header)
      #expect(try Self.read([Event].self, Self.json(history.events)) == history.events)
    }
  }

  @Test func anEventIsThisLine() throws {
    let event = Self.event(.wroteMSR(msr: 0x4b56_4d01, value: 0x10001, fault: nil))
    let line = """
      {"by":"vcpu0","did":{"wroteMSR":{"msr":"0x4b564d01","value":"0x10001"}},"n":7,\
      "raw":[3,18446744073709551615],"tsc":[1,2]}
      """
    #expect(try Self.json(event) == line)
    #expect(try Self.read(Event.self, line) == event)
    #expect(try Self.json(Self.event(.tick, by: .host)).contains(#""by":"host","did":{"tick":{}}"#))
  }

  @Test func aHeaderIsThisLine() throws {
    let header = Header(
      scenario: "set-clock", seed: .max, attempt: 2,
      host: HostFacts(
        kernel: "6.18.15", backend: "kvm_amd", clocksource: "tsc", tscKHz: 2_596_118))
    let line = """
      {"attempt":2,"format":"kvmclock-history","host":{"backend":"kvm_amd","clocksource":"tsc",\
      "kernel":"6.18.15","tscKHz":2596118},"scenario":"set-clock","seed":18446744073709551615,\
      "version":7}
      """
    #expect(try Self.json(header) == line)
    #expect(try Self.read(Header.self, line) == header)
  }

  /// Swift's coder named them `_0`, and a public format did so too.
  @Test func aValueWithoutALabelHasAName() throws {
    let calls = ClockCalls(threads: 2, calls: 3)
    for action: Action in [
      .getClock(ClockRecord(clock: 5)), .setClock(ClockRecord(clock: 5)), .xenUnstableSet(true),
      .setClockRefused(ClockRecord(clock: 5), error: "EINVAL"), .clockCalls(calls),
    ] {
      let line = try Self.json(Self.event(action, by: .host))
      #expect(line.contains(#"":{"#) && line.contains(#""value":"#) && !line.contains("_0"))
      let old = line.replacing(#""value":"#, with: #""_0":"#)
      let renewed = String(decoding: Action.renewed(Array(old.utf8)), as: UTF8.self)
      #expect(renewed == line)
    }
  }

  @Test func memoryIsOneStringOfDigits() throws {
    #expect(try Self.json([HexBytes([0, 0xa5, 0xff])]) == #"["00a5ff"]"#)
    #expect(
      try Self.read([HexBytes].self, #"["00A5fF",""]"#) == [
        HexBytes([0, 0xa5, 0xff]), HexBytes([]),
      ])
  }

  @Test func outcomesAndVerdictsSurviveTheRoundTrip() throws {
    let violation = Violation(expected: "0 ns", seen: "-1 ns", events: [1, 2])
    for outcome in [
      Outcome.holds(evidence: "2 records"), .broken(violations: [violation]),
      .notTested(reason: "no TSC"), .inconclusive(reason: "wide"),
    ] {
      let verdict = Verdict(
        rule: "RATE-RAW", outcome: outcome, known: KnownDeviation.table[0], scenario: "rate")
      #expect(try Self.read(Verdict.self, Self.json(verdict)) == verdict)
    }
  }

  /// Refused, and the text says what was wrong.
  static func expectRefused<Value: Decodable>(
    _: Value.Type, _ json: String, _ text: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    do {
      let value = try read(Value.self, json)
      Issue.record("\(json) was read as \(value)", sourceLocation: sourceLocation)
    } catch DecodingError.dataCorrupted(let context) {
      #expect(
        context.debugDescription.contains(text), "\(json)", sourceLocation: sourceLocation)
    } catch {
      Issue.record("\(json): \(error)", sourceLocation: sourceLocation)
    }
  }

  @Test(arguments: [
    "", "0x", "12", "x12", "0xg", "0x 1", "0x+5", "0x-1", "0x1_0", "0X1", "0x10000000000000000",
  ])
  func badHexIsRefused(text: String) {
    Self.expectRefused([Hex].self, "[\"\(text)\"]", "not a hexadecimal number: \(text)")
  }

  @Test(arguments: ["0", "abc", "0g", "zz", "+1", "１２", "0x"])
  func badBytesAreRefused(text: String) {
    Self.expectRefused([HexBytes].self, "[\"\(text)\"]", "hexadecimal digits")
  }

  @Test(arguments: [
    "", "Host", "guest", "vcpu", "vcpu-1", "vcpu+1", "vcpu01", "vcpu1 ", "vcpux",
    "vcpu99999999999999999999",
  ])
  func aBadActorIsRefused(text: String) {
    Self.expectRefused([Actor].self, "[\"\(text)\"]", "not \"\(text)\"")
  }

  @Test(arguments: [
    ("[2,1]", "[3,4]"), ("[1,2]", "[4,3]"), ("[1]", "[3,4]"), ("[1,2,3]", "[3,4]"),
    ("[]", "[]"), ("[1,2]", "[3]"),
  ])
  func aBadBracketIsRefused(tsc: String, raw: String) {
    let line = #"{"by":"host","did":{"tick":{}},"n":7,"raw":\#(raw),"tsc":\#(tsc)}"#
    Self.expectRefused(Event.self, line, "the earlier one first")
  }

  @Test func anUnknownActionIsRefused() {
    for line in [
      #"{"by":"host","did":{"sang":{}},"n":7,"raw":[3,4],"tsc":[1,2]}"#,
      #"{"by":"host","did":{"tick":{},"entered":{}},"n":7,"raw":[3,4],"tsc":[1,2]}"#,
      #"{"by":"host","n":7,"raw":[3,4],"tsc":[1,2]}"#,
      #"{"by":"host","did":{"tick":{}},"n":7,"raw":[-3,4],"tsc":[1,2]}"#,
    ] {
      #expect(throws: DecodingError.self) { try Self.read(Event.self, line) }
    }
  }
}
