import Testing

@testable import ABIChecker

/// Histories that no scenario makes, of a host that does no wrong: steps in any order, on any vCPU.
@Suite struct HonestWalkTests {
  /// RATE-RAW asks for a script without settings of the clock, HOTPLUG-NO-RESNAP for Linux 6.7, RESNAP-NO-JUMP for a
  /// kernel that is not there yet.
  static let rules = Rule.all.filter {
    !["RATE-RAW", "HOTPLUG-NO-RESNAP", "RESNAP-NO-JUMP"].contains($0.id)
  }

  /// Steps that every scenario takes: no rule breaks on them, whatever its own scenario is.
  @Test(arguments: SimulatedTime.Source.allCases)
  func noWalkBreaksARule(source: SimulatedTime.Source) {
    Self.judge(Self.rules, source: source, isWild: false)
  }

  /// All steps that there are: a rule for whatever is recorded has to stand them.
  @Test(arguments: SimulatedTime.Source.allCases)
  func noWildWalkBreaksARuleForAllHistories(source: SimulatedTime.Source) {
    Self.judge(Self.rules.filter(\.everywhere), source: source, isWild: true)
  }

  /// Machines that live at the same time have nothing of each other's: records, pairs, settings, fills.
  @Test(arguments: SimulatedTime.Source.allCases)
  func noWalkOfTwoMachinesAtOnceBreaksARule(source: SimulatedTime.Source) {
    Self.judge(Self.rules, source: source, isWild: false, besides: true)
  }

  /// The events of both in the order in which they began, each machine with its name.
  static func together(_ histories: [History]) -> History {
    var history = histories[0]
    history.events = histories.enumerated().flatMap { name, history in
      history.events.map { event in
        var event = event
        event.machine = name
        return event
      }
    }.enumerated().sorted {
      ($0.element.began.raw, $0.offset) < ($1.element.began.raw, $1.offset)
    }.map(\.element)
    for at in history.events.indices { history.events[at].number = at + 1 }
    return history
  }

  private static func judge(
    _ rules: [Rule], source: SimulatedTime.Source, isWild: Bool, besides: Bool = false
  ) {
    var seeds = SeededGenerator()
    for _ in 0..<100 {
      let seed = seeds.next()
      var history = walk(seed: seed, source: source, isWild: isWild)
      if besides {
        history = together([history, walk(seed: seed &+ 1, source: source, isWild: isWild)])
      }
      let timeline = Timeline(history)
      for rule in rules {
        let outcome = rule.judge(timeline)
        #expect(!outcome.isBroken, "\(rule.id), seed \(seed): \(outcome)")
      }
    }
  }

  static func walk(
    seed: UInt64, source: SimulatedTime.Source, isWild: Bool = false,
    mayResnapOnHotplug: Bool = true
  ) -> History {
    var random = SeededGenerator(seed: seed)
    var host = HistoryBuilder(source: source, noise: .random(SeededGenerator(seed: seed ^ 1)))
    host.resnapsOnHotplug = random.chance(3) && mayResnapOnHotplug
    host.movesBetweenCPUs = random.chance(2)
    host.host(.capability(name: "KVM_CAP_ADJUST_CLOCK", value: 0xe))
    for _ in 0..<random.below(2) + 1 {
      host.machine(0, 1, tscOffset: random.next())
      for _ in 0..<random.below(60) {
        step(&host, &random, isWild: isWild)
        if isWild, random.chance(6) { raceStep(&host, &random) }
      }
    }
    return host.history
  }

  private static func step(
    _ host: inout HistoryBuilder, _ random: inout SeededGenerator, isWild: Bool
  ) {
    let id = random.pick(host.vcpus.keys.sorted())
    let address = 0x10000 + UInt64(id) * 0x1000 + UInt64(random.below(3)) * 0x200
    guard host.vcpus[id]!.isRegistered else {
      return random.chance(4)
        ? host.enter(id) : register(&host, &random, id, address)
    }
    if isWild, random.chance(6) { return host.walkRegistration(id, &random) }
    switch random.below(isWild ? 31 : 19) {
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
    case 18 where random.chance(2): host.loop(id, random.pick(["schedclock", "rewriter"]))
    case 19: host.tellStopped(id)
    case 20: host.clearStopped(id)
    case 21: host.readRealtime()
    case 22: wall(&host, &random, id)
    case 23: host.wholeClock()
    case 24: host.setClock(random.pick([0, .max]), realtime: random.pick([0, .max, 1 << 60]))
    case 25:
      host.trySetClock(ClockRecord(clock: random.next(), flags: 1 << 4 | 0xe))
      host.race()
    case 26: host.setTSCOffset(id, random.pick([0, 1 << 63, host.generationOffset ?? 7]))
    case 27:
      host.hostWriteTSC(id, random.next())
      if random.chance(2) { host.noteOffset(id) }
    case 28: tscWriteOfTheGuest(&host, &random, id)
    case 29 where random.chance(2):
      if random.chance(2) {
        host.setTSCKHz(id, SimulatedTime.tscKHz + 100)
      } else {
        host.hostWriteAdjust(id, random.next())
      }
    case 29:
      host.migrate(
        realtime: random.chance(2), through: random.pick([MSR.systemTime, MSR.systemTimeOld]),
        milliseconds: UInt64(random.below(2000)), telling: random.pick([nil, id]))
    default:
      let ids = host.vcpus.keys.sorted().filter { host.vcpus[$0]!.isRegistered }
      host.together(ids.map { ($0, random.pick(["schedclock", "rewriter"])) }, reads: 2000)
    }
  }

  private static func raceStep(_ host: inout HistoryBuilder, _ random: inout SeededGenerator) {
    let ids = host.vcpus.keys.sorted().filter { host.vcpus[$0]!.isRegistered }
    guard let id = ids.first else { return }
    switch random.below(4) {
    case 0: host.race(random.below(3), ids)
    case 1: host.race(random.below(3), ids, owner: id)
    case 2: host.sample(id)
    default:
      host.move(id, to: random.below(4))
      host.read(id)
    }
  }

  private static func wall(
    _ host: inout HistoryBuilder, _ random: inout SeededGenerator, _ id: Int
  ) {
    let address: UInt64 = random.pick([0, 0x30040, 0x30043, 0x30ffc, 1 << 50])
    switch random.below(4) {
    case 0: host.hostWriteWall(id, at: address)
    case 1: host.writeWall(id, at: address)
    case 2: host.readWallMSR(id)
    default: Script.wall(&host, id, at: 0x30040)
    }
    host.lookAtWall(address == 0 || address == 1 << 50 ? 0x30000 : address &- 64)
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
