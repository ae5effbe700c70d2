@testable import ABIChecker

extension Script {
  static let boundaryValues: [UInt64] = [0, 1, (1 << 63) - 1, 1 << 63, .max, .max - 20_000]

  static func clockStart(_ host: inout HistoryBuilder) {
    for _ in 0..<2 {
      host.createMachine()
      for _ in 0..<3 { host.wholeClock() }
      host.wait(milliseconds: 1)
      for id in [0, 1] { host.createVCPU(id) }
      for _ in 0..<2 { host.wholeClock() }
      for id in [0, 1] {
        host.register(id)
        host.wholeClock()
      }
    }
  }

  static func getClock(_ host: inout HistoryBuilder) {
    host.host(.capability(name: "KVM_CAP_ADJUST_CLOCK", value: Int32(host.clockFlags)))
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    for _ in 0..<8 {
      host.readRealtime()
      host.wholeClock()
      host.readRealtime()
    }
    host.raceAlone()
    host.race()
  }

  static func oneInstant(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    host.bracket = 400
    for id in [0, 1, 0, 1] { host.register(id) }
    host.readRealtime()
    for _ in 0..<16 {
      host.getClock()
      host.readRealtime()
    }
    for round in 0..<16 {
      host.setClock(1 << 50, realtime: host.realtime - 1_000_000)
      host.read(round % 2)
    }
  }

  static func turnOfSecond(_ host: inout HistoryBuilder) {
    host.machine(0)
    host.bracket = 400
    host.register(0)
    host.readRealtime()
    for _ in 0..<16 {
      host.getClock()
      host.readRealtime()
    }
  }

  static func getClockNoMaster(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    host.register(0, msr: MSR.systemTimeOld)
    host.register(1)
    host.enter(0)
    for _ in 0..<4 {
      host.register(1)
      for id in [0, 1] {
        host.wholeClock()
        host.read(id)
        host.wholeClock()
      }
    }
    host.race()
    for value in boundaryValues {
      host.setClock(value)
      host.getClock()
      for id in [0, 1] { host.read(id) }
    }
  }

  static func setClockExact(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    for value in boundaryValues {
      host.wait(milliseconds: 1)
      host.setClock(value)
      for id in [0, 1] { host.read(id) }
    }
    host.setClock(.max - 9_000)
    for _ in 0..<4 {
      host.read(0)
      host.getClock()
    }
  }

  static func setClockFlags(_ host: inout HistoryBuilder) {
    host.host(.capability(name: "KVM_CAP_ADJUST_CLOCK", value: Int32(host.clockFlags)))
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    host.getClock()
    let known: [UInt32] = [2, 8, 0xa, 0, 2, 6, 0xc, 0xe]
    for flags in (0..<32).map({ UInt32(1) << $0 }) + known {
      host.trySetClock(
        ClockRecord(clock: 5 << 40, flags: flags, realtime: .max, hostTSC: 1 << 50))
      for id in [0, 1] { host.read(id) }
      host.getClock()
    }
  }

  static func setClockRealtime(_ host: inout HistoryBuilder) {
    host.createMachine()
    host.setClock(1 << 50, realtime: host.realtime - 180_000_000_000)
    for id in [0, 1] { host.createVCPU(id) }
    for id in [0, 1] { host.register(id) }
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    func readAll(_ host: inout HistoryBuilder) {
      host.getClock()
      for id in [0, 1] { host.read(id) }
    }
    for shift: Int64 in [-180_000_000_000, 60_000_000_000, -1_000_000, 1 << 60, 0, .max] {
      host.setClock(
        1 << 62, realtime: host.realtime &+ UInt64(bitPattern: shift), flags: shift == 0 ? 0xe : 4)
      readAll(&host)
    }
    for _ in 0..<4 {
      host.getClock()
      guard case .getClock(let record) = host.events[host.events.count - 1].action else { return }
      host.wait(milliseconds: 2)
      host.readRealtime()
      host.trySetClock(record)
      host.readRealtime()
      readAll(&host)
    }
  }
}
