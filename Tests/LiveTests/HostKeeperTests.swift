import Glibc
import Testing

@testable import Scenarios

/// Nothing is changed here, so nothing is put back; what is tried is the process that would do it.
@Suite struct HostKeeperTests {
  @Test func whoPutsTheHostBackIsToldThatAllIsWell() throws {
    let keeper = try HostKeeper(["/bin/sh", "-c", "test \"$(cat)\" = done"])
    #expect(keeper.restore().isEmpty)
  }

  @Test func oneThatEndedBeforeIsReported() throws {
    let keeper = try HostKeeper(["/bin/sh", "-c", "exit 64"])
    usleep(200_000)
    #expect(keeper.restore().contains { $0.contains("had ended before") })
  }

  @Test(arguments: [[], ["/no/such/program"]] as [[String]])
  func withoutOneTheHostIsNotChanged(restorer: [String]) {
    #expect(throws: HostKeeper.CannotKeep.self) { try HostKeeper(restorer) }
  }

  @Test func settingsSurviveTheCommandLine() throws {
    let found = HostSettings.found()
    #expect(try #require(HostSettings(arguments: found.arguments)) == found)
    #expect(found.restore().isEmpty)
  }
}
