import ABIChecker
import Foundation
import Glibc
import Testing

@testable import VMM

/// What an HTTP server answers, and what is told of it.
@Suite struct HTTPTests {
  /// Listens on a unix socket, and answers the first connection with these pieces; then it closes it, or does nothing more.
  private final class Server {
    let path: String

    init(_ pieces: [String], closes: Bool) throws {
      path = NSTemporaryDirectory() + "/kvmclock-http-\(UUID().uuidString.prefix(8))"
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      try #require(path.utf8.count < MemoryLayout.size(ofValue: address.sun_path))
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
      let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      let result = withUnsafePointer(to: address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      try #require(result == 0 && listen(listener, 1) == 0)
      Thread {
        let connection = accept(listener, nil, nil)
        var request = [UInt8](repeating: 0, count: 4096)
        _ = recv(connection, &request, request.count, 0)
        for piece in pieces {
          let bytes = Array(piece.utf8)
          _ = send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
          usleep(2000)
        }
        if !closes { _ = recv(connection, &request, request.count, 0) }
        close(connection)
        close(listener)
      }.start()
    }

    deinit { unlink(path) }
  }

  /// What is told of a request that gets this answer; nil if all is well.
  private func complaint(
    about pieces: [String], closes: Bool = false, milliseconds: Int = 10_000
  ) throws -> String? {
    let server = try Server(pieces, closes: closes)
    let stream = try Stream(path: server.path, milliseconds: 1000, isAlive: {})
    do throws(VMMError) {
      try HTTP.request(
        "PUT", "/vm", body: #"{"a": 1}"#, on: stream, for: .pause, milliseconds: milliseconds)
      return nil
    } catch { return "\(error)" }
  }

  @Test(arguments: [
    ["HTTP/1.1 204 \r\nServer: x\r\n\r\n"],
    ["HTTP/1.1 2", "00 OK\r", "\nContent-Length: 2\r\n\r", "\n{", "}"],
    // The status is all that matters: neither the rest of a body nor its length.
    ["HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + String(repeating: "x", count: 100_000)],
    ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\n{}\r\n", "0\r\n\r\n"],
    ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"],
  ])
  func anAnswerOf2xxIsWell(pieces: [String]) throws {
    #expect(try complaint(about: pieces) == nil)
  }

  @Test(arguments: [
    ["HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\n", "not ", "today", "HTTP/1.1 200"],
    ["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad\r\nCONTENT-LENGTH:9\r\n\r\nnot today"],
    [
      "HTTP/1.1 400 Bad\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\nnot \r\n", "5;x=y\r\ntoday\r\n",
      "0\r\n\r\n",
    ],
  ])
  func aRefusalIsToldInTheServersWords(pieces: [String]) throws {
    let said = try #require(try complaint(about: pieces))
    #expect(said.hasPrefix("the VMM refused to pause: PUT /vm: status 400 not today"), "\(said)")
  }

  @Test func aRefusalWithoutALengthEndsWithTheConnectionOrTheWait() throws {
    let answer = ["HTTP/1.1 500 No\r\n\r\n", "not today"]
    let words = "the VMM refused to pause: PUT /vm: status 500 not today"
    #expect(try complaint(about: answer, closes: true) == words)
    #expect(try complaint(about: answer, milliseconds: 300) == words)
  }

  @Test func aHugeRefusalIsCut() throws {
    let said = try #require(
      try complaint(
        about: [
          "HTTP/1.1 400 Bad\r\nContent-Length: 9000000\r\n\r\n"
            + String(repeating: "é", count: 40_000)
        ]))
    #expect(said.hasSuffix("é …") && said.count < 500, "\(said)")
  }

  @Test(arguments: [
    ([], true, "PUT /vm was not answered: it closed the connection"),
    (["HTTP/1.1 204"], true, "PUT /vm was not answered: it closed the connection"),
    ([], false, "the answer to PUT /vm did not come within 300 ms"),
    (["HTTP/1.1 204 No"], false, "the answer to PUT /vm did not come within 300 ms"),
    (["SSH-2.0-x\r\n\r\n"], false, "PUT /vm was not answered: what came is no HTTP: SSH-2.0-x"),
    (["HTTP/1.1\r\n\r\n"], false, "what came is no HTTP"),
    (["HTTP/1.1 x\r\n\r\n"], false, "what came is no HTTP"),
    ([String(repeating: "a", count: 70_000)], false, "its head is longer than 64 KiB"),
  ])
  func noAnswerIsTold(pieces: [String], closes: Bool, words: String) throws {
    let said = try #require(try complaint(about: pieces, closes: closes, milliseconds: 300))
    #expect(said.contains(words), "\(said)")
  }
}
