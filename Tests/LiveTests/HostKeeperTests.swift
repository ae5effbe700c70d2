import Foundation
import Testing

@testable import Scenarios

/// Nothing is changed here, so nothing is put back; what is tried is the process that would do it.
@Suite struct HostKeeperTests {
  @Test func whoPutsTheHostBackIsToldThatAllIsWell() throws {
    let keeper = try HostKeeper(["/bin/sh", "-c", "echo ready; test \"$(cat)\" = done"])
    #expect(keeper.restore().isEmpty)
  }

  /// The second would take for the host's own what the first has changed, and leave the host with it.
  @Test func oneHostHasOneKeeperAtATime() throws {
    let keeper = try HostKeeper(["/bin/sh", "-c", "echo ready; cat > /dev/null"])
    #expect {
      try HostKeeper(["/bin/sh", "-c", "echo ready"], patience: .milliseconds(100))
    } throws: {
      "\($0)".contains("another `kvmclock run --change-host`")
    }
    #expect(keeper.restore().isEmpty)
    #expect(try HostKeeper(["/bin/sh", "-c", "echo ready; cat > /dev/null"]).restore().isEmpty)
  }

  /// After SIGKILL of the first process, the host is the second one's until all is put back.
  @Test func whoPutsTheHostBackKeepsIt() throws {
    let began = ContinuousClock.now
    let first = try HostKeeper(["/bin/sh", "-c", "echo ready; exec sleep 1"])
    let second = try HostKeeper(["/bin/sh", "-c", "echo ready; cat > /dev/null"])
    #expect(ContinuousClock.now - began > .milliseconds(900))
    #expect(second.restore().isEmpty)
    // Has its process waited for: one that nobody waits for keeps the test library busy, which waits for any.
    _ = first.restore()
  }

  @Test func oneThatEndedBeforeIsReported() throws {
    let keeper = try HostKeeper(["/bin/sh", "-c", "echo ready; exit 64"])
    usleep(200_000)
    #expect(keeper.restore().contains { $0.contains("had ended before") })
  }

  @Test(arguments: [
    [], ["/no/such/program"], ["/bin/sh", "-c", "exit 0"], ["/bin/sh", "-c", "echo no; cat"],
  ])
  func withoutOneTheHostIsNotChanged(restorer: [String]) {
    #expect(throws: HostKeeper.CannotKeep.self) { try HostKeeper(restorer) }
  }

  @Test func theCommandSaysThatItIsReady() throws {
    let settings = HostSettings.found().arguments
    #expect(!settings.isEmpty)
    // Its own settings follow: that the host has them already is all that it finds.
    let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let command = URL(fileURLWithPath: tests).deletingLastPathComponent().path + "/kvmclock"
    #expect(try HostKeeper([command, "restore-host"]).restore().isEmpty)
  }

  @Test func aFileThatDoesNotKeepWhatWasWrittenIsNotSet() throws {
    #expect(!HostFile.set("freezer", in: "/dev/null"))
    #expect(!HostFile.set("freezer", in: "/no/such/file"))
    let path = NSTemporaryDirectory() + "/pm_test-\(UUID().uuidString)"
    try Data("none\n".utf8).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    #expect(HostFile.set("freezer", in: path))
  }

  @Test func settingsSurviveTheCommandLine() throws {
    let found = HostSettings.found()
    #expect(try #require(HostSettings(arguments: found.arguments)) == found)
    #expect(found.restore().isEmpty)
  }
}
