import PVClock

@testable import ABIChecker

/// Events of any kind with any numbers, the extreme ones first of all.
struct HistoryGenerator {
  var random: SeededGenerator

  mutating func history() -> History {
    var header = Header(
      scenario: random.pick(ScenarioName.allCases.map(\.rawValue) + ["", "unheard of"]),
      seed: number(),
      host: HostFacts(
        kernel: random.pick(["", "6.18.15", "5.10", "9999999999999999999.1"]),
        clocksource: random.pick([nil, "tsc", "hpet", "hyperv_clocksource_tsc_page", ""]),
        tscKHz: random.pick([nil, 0, 1, 999_999, 2_596_118, .max])))
    header.attempt = random.pick([0, 1, .max, .min])
    var began = Instant(tsc: 0, raw: 0)
    var ended = began
    let events = (0..<random.below(40)).map { index in
      // An entry's steps share its bracket.
      if index == 0 || !random.chance(3) { (began, ended) = bracket() }
      return Event(
        number: random.chance(8) ? random.pick([0, -1, .min, .max]) : index + 1, actor: actor(),
        began: began, ended: ended, action: action())
    }
    return History(header: header, events: events)
  }

  mutating func number() -> UInt64 {
    switch random.below(4) {
    case 0: random.pick([0, 1, .max, .max - 1, .max - 31, 1 << 63, (1 << 63) - 1])
    case 1: random.pick([0x10000, 0x10001, 0x10020, 0x11001, 0x12, 0x4b56_4d01])
    case 2: random.next()
    default: random.next() >> UInt64(random.below(64))
    }
  }

  private mutating func hex() -> Hex { Hex(number()) }

  private mutating func msr() -> Hex {
    random.chance(6) ? hex() : random.pick([0x12, 0x4b56_4d01, 0x4b56_4d01, 0x11, 0x10, 0x3b])
  }

  private mutating func vcpu() -> Int {
    random.chance(5) ? random.pick([.min, .max, -1, 255]) : random.below(3)
  }

  private mutating func actor() -> Actor { random.chance(3) ? .host : .vcpu(vcpu()) }

  private mutating func bracket() -> (Instant, Instant) {
    let ends = (0..<4).map { _ in number() }
    // A TSC that is not the same on every CPU makes brackets that end before they began.
    if random.chance(20) {
      return (Instant(tsc: ends[0], raw: ends[1]), Instant(tsc: ends[2], raw: ends[3]))
    }
    return (
      Instant(tsc: min(ends[0], ends[2]), raw: min(ends[1], ends[3])),
      Instant(tsc: max(ends[0], ends[2]), raw: max(ends[1], ends[3]))
    )
  }

  mutating func page() -> ClockPage {
    let scale = TSCScale(tscKHz: random.pick([0, 1, 2_596_118, .max]))
    let isPlain = random.chance(2)
    return ClockPage(
      version: UInt32(truncatingIfNeeded: number()), pad0: isPlain ? 0 : 9,
      tscTimestamp: number(), systemTime: number(),
      tscToSystemMultiplier: isPlain ? scale.multiplier : UInt32(truncatingIfNeeded: number()),
      tscShift: isPlain ? scale.shift : random.pick([-128, -127, -64, -1, 0, 63, 64, 127]),
      flags: ClockPage.Flags(rawValue: random.pick([0, 1, 1, 3, 4, 0xff])),
      pad: isPlain ? 0 : .max)
  }

  private mutating func reading() -> Reading { Reading(tsc: number(), page: page()) }

  private mutating func signed() -> Int64 { random.pick([0, -1, .min, .max, 77]) }

  private mutating func loop() -> LoopResult {
    LoopResult(
      reads: number(), backwards: random.pick([0, .max]), beyond: random.pick([0, .max]),
      excess: random.pick([nil, 0, .max]), negative: random.pick([0, .max]), worst: signed(),
      unstable: random.pick([0, 0, .max]),
      versions: number(), minimum: signed(), witnessed: random.pick([nil, number()]),
      first: reading(), last: reading(), worstBefore: number(), worstAfter: reading())
  }

  private mutating func watch() -> WatchResult {
    WatchResult(
      reads: number(), odd: number(), torn: random.pick([0, 0, .max]),
      tornPair: random.chance(2) ? [] : [page(), page()],
      stretches: (0..<random.below(4)).map { _ in
        Stretch(page: page(), firstTSC: number(), lastTSC: number(), reads: number())
      },
      dropped: random.pick([0, 0, .max]))
  }

  private mutating func race() -> RaceResult {
    RaceResult(
      reads: number(), foreign: number(), unstable: random.pick([0, 0, .max]), versions: number(),
      backwards: random.pick([0, .max]), worst: signed(), worstBefore: number(),
      worstBeforeTSC: number(), worstAfter: reading(), first: reading(), last: reading())
  }

  private mutating func clock() -> ClockRecord {
    ClockRecord(
      clock: number(), flags: random.pick([0, 2, 8, 0xe, .max]), realtime: number(),
      hostTSC: number(), reserved: random.pick([nil, [], [0, 0, 0, 0, 0], [.max]]))
  }

  private mutating func fault() -> Fault? {
    random.chance(5) ? Fault(vector: .max, errorCode: 0, address: number()) : nil
  }

  private mutating func range() -> MemoryRange {
    MemoryRange(address: number(), count: random.pick([0, 1, 32, .max, .min, -1]))
  }

  private mutating func registrationAction() -> Action {
    switch random.below(12) {
    case 0: .cpuidWithoutKVM(vcpu: vcpu())
    case 1: .featuresEnforced(vcpu: vcpu())
    case 2: .msrsDenied(msrs: (0..<random.below(3)).map { _ in msr() })
    case 3: .hostMSRRefused(vcpu: vcpu(), msr: msr(), value: hex())
    case 4: .memoryCopied(count: random.pick([0, 1, 4096, .max, .min, -1]))
    case 5:
      .memoryChanged(
        runs: (0..<random.below(3)).map { _ in range() },
        except: (0..<random.below(3)).map { _ in range() })
    case 6: .hostMSRReadRefused(vcpu: vcpu(), msr: msr())
    case 7:
      .returned(
        request: random.pick(["KVM_GET_CLOCK", "KVM_SET_CLOCK", ""]),
        result: random.pick([0, 1, .max, .min]))
    case 8: .halted(vcpu: vcpu())
    case 9: .killed(request: random.pick(["KVM_RUN", ""]))
    case 10:
      .refused(
        request: random.pick(["KVM_GET_CLOCK", ""]), because: random.pick(Misuse.allCases),
        error: random.pick([nil, "EFAULT", "ENXIO"]))
    default: .stopped(exit: "")
    }
  }

  private mutating func small() -> Int { random.pick([0, 1, 1, 2, 2, -1, .min, .max]) }

  private mutating func memoryAction() -> Action {
    switch random.below(10) {
    case 8: .pagesMissing(memory: small())
    case 9: .pageSupplied(memory: small(), page: small())
    case 0...1:
      .slotSet(
        slot: small(), address: random.pick([0, 0x10000, 0xf000, hex()]), memory: small(),
        size: random.pick([0x20_0000, 0x1000, hex()]), flags: random.pick([0, 1, 2, hex()]))
    case 2: .slotDeleted(slot: small())
    case 3:
      random.next() % 2 == 0
        ? .remapped(memory: small(), shows: small())
        : .protected(memory: small(), access: random.pick(HostAccess.allCases))
    case 4:
      random.next() % 2 == 0
        ? .dirtyLog(slot: small(), pages: (0..<random.below(3)).map { _ in small() })
        : .dirtyLogCleared(slot: small(), pages: (0..<random.below(3)).map { _ in small() })
    case 5:
      .dirtyRings(
        pages: (0..<random.below(3)).map { _ in
          NamedPage(vcpu: random.pick([nil, 0, .max]), slot: small(), page: small())
        })
    default:
      .compared(
        changes: (0..<random.below(4)).map { _ in
          MemoryChange(
            memory: small(), offset: number(),
            bytes: [UInt8](repeating: 1, count: random.pick([0, 1, 12, 32, 5000])))
        })
    }
  }

  private mutating func action() -> Action {
    if random.chance(4) { return memoryAction() }
    return switch random.below(47) {
    case 0: .vmCreated
    case 1: .vcpuCreated(vcpu: vcpu())
    case 2: .featuresSet(vcpu: vcpu(), features: hex())
    case 3: .booted(vcpu: vcpu(), guest: "", mode: random.pick(CPUMode.allCases))
    case 4: .replugged(vcpu: vcpu(), how: random.pick([.userSpace, .initialized(by: .max)]))
    case 5:
      .filled(
        address: hex(), count: random.pick([0, 1, 32, 4096, .max, .min, -1]),
        byte: random.pick([0xa5, 0, 0xffff_ffff_ffff_ffff]))
    case 6: .poked(address: hex(), value: hex())
    case 7: .msrIndexList(indices: (0..<random.below(5)).map { _ in hex() })
    case 8:
      .supportedCPUID(
        function: random.pick([0x4000_0000, 0x4000_0001, 0]), eax: hex(), ebx: hex(), ecx: hex(),
        edx: hex())
    case 9:
      .capability(name: "KVM_CAP_ADJUST_CLOCK", value: random.pick([0, 1, 0xe, -1, .min, .max]))
    case 10: .tscKHz(vcpu: vcpu(), kHz: random.pick([0, 1, 2_596_118, .max]))
    case 11: .tscOffset(vcpu: vcpu(), cycles: number())
    case 12...14: .getClock(clock())
    case 15: .setClock(clock())
    case 16: .hostWroteMSR(vcpu: vcpu(), msr: msr(), value: hex())
    case 17: .hostReadMSR(vcpu: vcpu(), msr: msr(), value: hex())
    case 18:
      .memory(
        address: hex(),
        bytes: HexBytes(
          [UInt8](repeating: 0xa5, count: random.pick([0, 1, 31, 32, 33, 160, 4097]))))
    case 19...20: .page(vcpu: vcpu(), address: hex(), page: page())
    case 21: .entered
    case 22...23: .wroteMSR(msr: msr(), value: hex(), fault: fault())
    case 24: .readMSR(msr: msr(), value: hex(), fault: fault())
    case 25:
      .read(
        address: hex(), ring: random.pick([0, 3, .min]), reading: reading(),
        settled: !random.chance(4))
    case 26...27:
      .looped(guest: random.pick(["rewriter", "schedclock", "sampler", ""]), result: loop())
    case 28: registrationAction()
    case 29: .setTSCOffset(vcpu: vcpu(), cycles: number())
    case 30: .toldStopped(vcpu: vcpu(), errno: random.pick([.none, "EINVAL", "", "E-1"]))
    case 31: .saved
    case 32...33:
      .watched(
        guest: random.pick(["sampler", "torn"]), owner: vcpu(), address: hex(), result: watch())
    case 34: .raced(race: random.pick([1, 2, .min]), owner: vcpu(), result: race())
    case 35: .stormed(msr: msr(), writes: number(), versions: number())
    case 36: .measured(reads: number(), cycles: number(), bareCycles: number())
    case 37: .moved(vcpu: vcpu(), cpu: random.pick([0, 1, .max, .min]))
    case 38: .setClockRefused(clock(), error: random.pick(["EINVAL", ""]))
    case 39...40:
      .hostClock(
        name: random.pick(["CLOCK_REALTIME", "CLOCK_BOOTTIME", "CLOCK_MONOTONIC", ""]),
        nanoseconds: number())
    case 41:
      .clockCalls(
        ClockCalls(
          threads: random.pick([0, 2, .min]), calls: number(),
          backwards: random.pick([0, 1, .max]),
          worst: signed(), worstBefore: number(), worstAfter: number()))
    case 42:
      .setTSCKHz(
        vcpu: random.chance(4) ? nil : vcpu(), kHz: random.pick([0, 1, 2_596_118, .max]),
        error: random.pick([nil, "EINVAL"]))
    case 43:
      .memory(
        address: random.pick([0, 0x10000, hex()]),
        bytes: HexBytes((0..<random.pick([12, 140])).map { UInt8(truncatingIfNeeded: $0 * 7) }))
    case 44:
      .hostChanged(
        what: random.pick(["clocksource", "frequency", "suspend"]), value: "",
        error: random.pick([nil, ""]))
    case 45:
      random.pick([
        .ranL2(tscOffset: hex()), .leftL2,
        .readInL2(address: hex(), reading: reading(), settled: !random.chance(4)),
      ])
    default: random.pick([.tick, .lacking(what: "", evidence: ""), .failed(reason: "")])
    }
  }
}
