import Testing

@testable import ABIChecker

/// Histories that no scenario makes, of a host that does no wrong: steps in any order, on any vCPU.
@Suite struct HonestWalkTests {
  /// RATE-RAW asks for a script without settings of the clock.
  static let rules = Rule.all.filter {
    !["RATE-RAW", "TSC-GUESTWRITE-CONTINUES", "TSCADJ-GUESTWRITE-CONTINUES"].contains($0.id)
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func noWalkBreaksARule(source: SimulatedTime.Source) {
    var seeds = SeededGenerator()
    for _ in 0..<300 {
      let seed = seeds.next()
      let timeline = Timeline(Self.walk(seed: seed, source: source))
      for rule in Self.rules {
        let outcome = rule.judge(timeline)
        #expect(!outcome.isBroken, "\(rule.id), seed \(seed): \(outcome)")
      }
    }
  }

  static func walk(seed: UInt64, source: SimulatedTime.Source) -> History {
    var random = SeededGenerator(seed: seed)
    var host = HistoryBuilder(source: source, noise: .random(SeededGenerator(seed: seed ^ 1)))
    host.resnapsOnHotplug = random.chance(3)
    host.movesBetweenCPUs = random.chance(2)
    host.host(.capability(name: "KVM_CAP_ADJUST_CLOCK", value: 0xe))
    for _ in 0..<random.below(2) + 1 {
      host.machine(0, 1, tscOffset: random.next())
      for _ in 0..<random.below(60) { step(&host, &random) }
    }
    return host.history
  }

  private static func step(_ host: inout HistoryBuilder, _ random: inout SeededGenerator) {
    let id = random.pick(host.vcpus.keys.sorted())
    let address = 0x10000 + UInt64(id) * 0x1000 + UInt64(random.below(3)) * 0x200
    guard host.vcpus[id]!.isRegistered else {
      return random.chance(4)
        ? host.enter(id) : register(&host, &random, id, address)
    }
    switch random.below(24) {
    case 0...1: register(&host, &random, id, address)
    case 2: host.run(id, .write(MSR.systemTime, address))
    case 3...5: host.read(id, ring: random.below(4))
    case 6: host.enter(id)
    case 7...9:
      for id in [id, random.pick(host.vcpus.keys.sorted()), id]
      where host.vcpus[id]!.isRegistered { host.look(id) }
    case 10...12: host.getClock()
    case 13: host.setClock(random.pick([0, 1 << 63, .max, random.next()]))
    case 14: host.wait(milliseconds: UInt64(random.below(random.chance(5) ? 20_000 : 20)))
    case 15: host.run(id, .readMSR(MSR.systemTimeOld), .readMSR(MSR.systemTime))
    case 16 where host.vcpus.count < 4:
      host.createVCPU(host.vcpus.count, tscOffset: host.vcpus[0]!.tscOffset)
    case 17: host.replug(id)
    case 19: host.setTSCOffset(id, random.pick([0, 1 << 63, host.generationOffset ?? 7]))
    case 20:
      host.hostWriteTSC(id, random.next())
      if random.chance(2) { host.noteOffset(id) }
    case 21: tscWriteOfTheGuest(&host, &random, id)
    case 22:
      if random.chance(2) {
        host.setTSCKHz(id, SimulatedTime.tscKHz + 100)
      } else {
        host.hostWriteAdjust(id, random.next())
      }
    case 18: host.loop(id, random.pick(["schedclock", "rewriter"]))
    default:
      let ids = host.vcpus.keys.sorted().filter { host.vcpus[$0]!.isRegistered }
      host.together(ids.map { ($0, random.pick(["schedclock", "rewriter"])) }, reads: 2000)
    }
  }

  /// As kernels are known to do it, the guest may be left with a record that no longer fits its TSC.
  private static func tscWriteOfTheGuest(
    _ host: inout HistoryBuilder, _ random: inout SeededGenerator, _ id: Int
  ) {
    let updates = random.chance(2)
    let value = random.next()
    host.guestWriteTSC(id, random.pick([MSR.tsc, MSR.tscAdjust]), value, updates: updates)
    for _ in 0..<random.below(4) {
      random.chance(2) ? host.look(id) : host.read(id)
    }
    if random.chance(2) { host.noteOffset(id) }
    if !updates { host.register(id, at: host.vcpus[id]!.address) }
  }

  private static func register(
    _ host: inout HistoryBuilder, _ random: inout SeededGenerator, _ id: Int, _ address: UInt64
  ) {
    if random.chance(4) {
      host.fill(address - 64, count: 160)
      host.register(id, at: address)
      host.dump(address - 64, count: 160)
    } else {
      host.register(id, at: address, msr: random.chance(4) ? MSR.systemTimeOld : MSR.systemTime)
    }
  }
}
