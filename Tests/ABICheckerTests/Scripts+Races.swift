@testable import ABIChecker

extension Script {
  static func torn(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.watch(1, of: 0, rounds: 210) { host, round in
      host.setClock(UInt64(round + 1) * 3_600_000_000_000)
      host.enter(0)
      host.look(0)
    }
  }

  static func contend(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    host.race(1, [0, 1])
    host.race(2, [0, 1], owner: 0)
    for id in [0, 1] { host.look(id) }
    host.register(0, msr: MSR.systemTimeOld)
    host.movesBetweenCPUs = false
    for id in [1, 0] { host.enter(id) }
    for id in [0, 1] { host.look(id) }
    host.race(3, [0, 1])
  }

  static func running(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.settleAndLook()
    host.run([0, 1]) { host, look in
      for round in 1...12 as ClosedRange<UInt64> {
        host.setClock(round * 3_600_000_000_000)
        for _ in 0..<2 {
          look(&host)
          host.wait(milliseconds: 1)
        }
        look(&host)
      }
    }
    host.run([1]) { host, look in
      for _ in 0..<3 {
        for msr in [MSR.systemTimeOld, MSR.systemTime] {
          host.register(0, msr: msr)
          for _ in 0..<2 {
            look(&host)
            host.wait(milliseconds: 1)
          }
          look(&host)
        }
      }
      host.enter(0)
    }
  }

  static func oldMSRStorm(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    host.register(0, msr: MSR.systemTimeOld)
    host.register(1)
    host.together([(0, "rewriter"), (1, "sampler")], reads: 2000)
    host.sample(1)
  }

  static func sharedPage(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for _ in 0..<6 {
      for id in [0, 1] { host.register(id, at: 0x18000) }
      host.storm(0, 1)
      host.look(0)
    }
    for id in [0, 1] { host.register(id, at: 0x18000) }
  }

  static func hop(_ host: inout HistoryBuilder) {
    host.machine(0)
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      host.register(0, msr: msr)
      host.enter(0)
      host.read(0)
      for round in 0..<50 {
        host.move(0, to: round % 2)
        host.read(0)
      }
    }
  }

  static func unentered(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for _ in 0..<2 {
      for id in [0, 1] { host.register(id) }
    }
    for (id, other) in [(0, 1), (1, 0)] {
      for isHalted in [false, true] {
        if isHalted { host.host(.halted(vcpu: id)) }
        host.setClock(3_600_000_000_000)
        host.enter(other)
        for each in [other, id] { host.look(each) }
        host.enter(id)
        host.look(id)
      }
    }
  }

  static func readCost(_ host: inout HistoryBuilder) {
    host.machine(0)
    host.register(0)
    host.measure(0, cycles: 400_000, bare: 320_000)
  }
}
