import ABIChecker
import Foundation
import PVClock

/// A folder of its own, removed with everything in it.
final class Folder {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "/kvmclock-tests-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String, _ text: String) throws -> String {
    try file(name, Array(text.utf8))
  }

  func file(_ name: String, _ bytes: [UInt8]) throws -> String {
    try Data(bytes).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
    return "\(path)/\(name)"
  }

  var names: [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? []
  }
}

enum Samples {
  static let host = HostFacts(
    kernel: "6.1.0-test", backend: "kvm_intel", clocksource: "tsc", tscKHz: 2_000_000)

  static let header = Header(scenario: "version", seed: 7, host: host)

  static func event(_ number: Int, by actor: Actor = .host, _ action: Action) -> Event {
    let at = UInt64(number) * 1000
    return Event(
      number: number, actor: actor, began: Instant(tsc: at, raw: at),
      ended: Instant(tsc: at + 10, raw: at + 5), action: action)
  }

  /// One event of every kind, with numbers at the ends of their ranges.
  static let history: History = {
    let page = ClockPage(
      version: .max, pad0: .max, tscTimestamp: .max, systemTime: .max,
      tscToSystemMultiplier: .max, tscShift: .min, flags: .reserved, pad: .max)
    let reading = Reading(tsc: .max, page: page)
    let fault = Fault(vector: 13, errorCode: 0, address: .max)
    let loop = LoopResult(
      reads: .max, worst: .min, minimum: .min, first: reading, last: reading, worstBefore: .max)
    let clock = ClockRecord(clock: .max, flags: 14, realtime: .max, hostTSC: .max)
    let actions: [Action] = [
      .vmCreated, .vcpuCreated(vcpu: 0), .featuresSet(vcpu: 0, features: 0x0100_0009),
      .booted(vcpu: 0, guest: "agent", mode: .protected),
      .replugged(vcpu: 0, how: .initialized(by: 1)),
      .filled(address: 0x1000, count: 32, byte: 0xa5), .poked(address: 0, value: Hex(UInt64.max)),
      .msrIndexList(indices: [0x11, 0x4b56_4d01]),
      .supportedCPUID(function: 0x4000_0000, eax: 1, ebx: 2, ecx: 3, edx: 4),
      .capability(name: "KVM_CAP_ADJUST_CLOCK", value: .min), .tscKHz(vcpu: 0, kHz: .max),
      .tscOffset(vcpu: 0, cycles: .max), .getClock(clock), .setClock(clock),
      .hostWroteMSR(vcpu: 1, msr: 0x12, value: 1), .hostReadMSR(vcpu: 1, msr: 0x12, value: 1),
      .memory(address: 0x2000, bytes: HexBytes([0, 0x7f, 0xff])),
      .page(vcpu: 0, address: 0x2000, page: page), .entered,
      .wroteMSR(msr: 0x12, value: 1, fault: nil), .readMSR(msr: 0x12, value: 1, fault: fault),
      .read(address: 0, ring: 3, reading: reading, settled: false),
      .looped(guest: "sampler", result: loop), .tick,
      .lacking(what: "a \"quoted\" thing", evidence: "line\nbreak, ü, \u{1b}[31m"),
      .failed(reason: "why"),
      .watched(
        guest: "torn", owner: 0, address: 0x2000,
        result: WatchResult(
          reads: .max, torn: 1, tornPair: [page, page],
          stretches: [Stretch(page: page, firstTSC: 0, lastTSC: .max, reads: .max)])),
      .raced(
        race: 1, owner: 0,
        result: RaceResult(reads: .max, foreign: 0, first: reading, last: reading)),
      .stormed(msr: 0x12, writes: .max, versions: .max),
      .measured(reads: .max, cycles: .max, bareCycles: .max), .moved(vcpu: 0, cpu: .max),
    ]
    let events = actions.enumerated().map { index, action in
      event(index + 1, by: index % 2 == 0 ? .host : .vcpu(index), action)
    }
    return History(header: header, events: events)
  }()

  /// A saved history's lines.
  static let headerLine = """
    {"attempt":1,"format":"kvmclock-history","host":{"backend":"kvm_intel","clocksource":"tsc",\
    "kernel":"6.1.0-test","tscKHz":2000000},"scenario":"version","seed":7,"version":7}
    """

  static func eventLine(_ number: Int, did: String = #"{"tick":{}}"#) -> String {
    #"{"by":"host","did":\#(did),"n":\#(number),"raw":[1,2],"tsc":[3,4]}"#
  }
}
