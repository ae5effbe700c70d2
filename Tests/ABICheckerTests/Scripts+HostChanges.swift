@testable import ABIChecker

extension Script {
  static func clocksourceSwitch(_ host: inout HistoryBuilder) {
    guard host.time.source == .tsc else {
      return host.host(.lacking(what: "a tsc clocksource", evidence: "the host has another one"))
    }
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.settleAndLook()
    for source in [SimulatedTime.Source.hpet, .tsc] {
      for id in [0, 1] { host.read(id) }
      host.loop(1) { $0.switchClocksource(to: source) }
      for id in [0, 1] { host.read(id) }
      for id in [0, 1] { readFreshRecord(&host, id) }
      host.wait(milliseconds: 100)
      host.settleAndLook()
      host.setClock(1 << 50)
      for id in [0, 1] { host.read(id) }
      host.settleAndLook()
    }
  }

  /// `fault` gets the number of the step, after it.
  static func realtimeStep(
    _ host: inout HistoryBuilder, fault: (inout HistoryBuilder, Int) -> Void
  ) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.settleAndLook()
    for (number, seconds) in [3600, -3600, -86400, 86400].enumerated() {
      for id in [0, 1] { host.read(id) }
      host.host(.hostChanged(what: "realtime", value: "\(seconds)", error: nil))
      host.wall.realtimeOffset &+= UInt64(bitPattern: Int64(seconds) * 1_000_000_000)
      fault(&host, number)
      for id in [0, 1] { host.read(id) }
      for id in [0, 1] {
        let address = UInt64(0x60000 + id * 0x1000)
        host.readRealtime()
        host.writeWall(id, at: address)
        host.readRealtime()
        host.lookAtWall(address - 64)
        host.getClock()
        host.readRealtime()
      }
    }
  }

  static func realtimeStep(_ host: inout HistoryBuilder) { realtimeStep(&host) { _, _ in } }

  static func slew(_ host: inout HistoryBuilder) {
    host.machine(0)
    host.register(0)
    host.host(.hostChanged(what: "frequency", value: "500", error: nil))
    for msr in [MSR.systemTimeOld, MSR.systemTime, MSR.systemTimeOld, MSR.systemTimeOld] {
      host.readMonotonic(fast: 500)
      readFreshRecords(&host)
      host.wait(milliseconds: 1000)
      host.register(0, msr: msr)
      readFreshRecords(&host)
      host.readMonotonic(fast: 500)
    }
  }

  private static func readFreshRecords(_ host: inout HistoryBuilder) {
    for _ in 0..<8 { readFreshRecord(&host, 0) }
  }

  private static func readFreshRecord(_ host: inout HistoryBuilder, _ id: Int) {
    host.tellStopped(id)
    host.enter(id)
    host.look(id)
    host.read(id)
  }

  static func suspend(_ host: inout HistoryBuilder) {
    host.machine(0, 1, 2)
    host.enter(0)
    for id in [1, 2] { host.register(id) }
    host.read(1)
    host.readHostClock("CLOCK_BOOTTIME")
    host.suspend(seconds: 10)
    host.readHostClock("CLOCK_BOOTTIME")
    for id in [0, 1, 2] { host.enter(id) }
    for id in [1, 2] { host.look(id) }
    host.read(1)
    host.register(0)
    host.look(0)
    host.machine(0)
    host.suspend(seconds: 10)
  }

  static func periodicSync(_ host: inout HistoryBuilder) {
    host.machine(0)
    host.register(0)
    host.look(0)
    host.wait(milliseconds: 300_050)
    host.refreshAll()
    host.enter(0)
    host.look(0)
  }
}
