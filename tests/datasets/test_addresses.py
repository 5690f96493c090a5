"""Addresses are shown and kept without what opens them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.datasets.addresses import Credentials, shown, split_credentials, without_secrets


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://zenodo.org/records/1/files/a.zip?download=1", "https://zenodo.org/records/1/files/a.zip?download=1"),
        ("https://www.youtube.com/watch?v=abc&t=3", "https://www.youtube.com/watch?v=abc&t=3"),
        ("https://me:secret@host:8443/a", "https://host:8443/a"),
        ("https://secret@host/a", "https://host/a"),
        ("socks5://me:secret@[::1]:9/", "socks5://[::1]:9/"),
        ("https://me:se/cr@et?@host/a", "https://host/a"),  # not encoded as it should be
        ("https://host/a?token=secret&v=1", "https://host/a?token=***&v=1"),
        (
            "https://host/a?X-Amz-Signature=secret&X-Amz-Expires=9",
            "https://host/a?X-Amz-Signature=***&X-Amz-Expires=***",
        ),
        ("https://host/a?secret", "https://host/a?***"),
        ("https://host/a#access_token=secret", "https://host/a#access_token=***"),
        ("https://me:secret", "https://***"),  # the rest was cut off
        ("https://[secret", "https://***"),
        ("https:/me:secret@host/a", "https:/host/a"),
        ("not an address", "not an address"),
        ("", ""),
    ],
)
def test_what_says_which_file_is_kept_and_what_opens_it_is_not(address, kept):
    assert shown(address) == kept


def test_every_address_of_a_message_is_cleaned():
    assert without_secrets("a 'ftp://u:p@h/x' (https://h?key=k), then https://u:p@h: no") == (
        "a 'ftp://h/x' (https://h?key=*** then https://h: no"
    )
    assert without_secrets("no address: me@host, 12:30, a//b") == "no address: me@host, 12:30, a//b"


@pytest.mark.parametrize(
    ("address", "plain", "credentials"),
    [
        ("https://host/root", "https://host/root", Credentials()),
        ("https://me:p%2Fw%40d@host:8/root/", "https://host:8/root/", Credentials("me", "p/w@d")),
        ("http://token@[::1]:8/", "http://[::1]:8/", Credentials("token")),
        ("https://host/root?token=a%20b&x=1", "https://host/root", Credentials(query="token=a%20b&x=1")),
        ("https://host/@name/root", "https://host/@name/root", Credentials()),
    ],
)
def test_credentials_are_taken_out_of_an_address(address, plain, credentials):
    assert split_credentials(address) == (plain, credentials)


@pytest.mark.parametrize(
    "address", ["https://me:pa/ss@host/", "https://me:pa@ss@host/", "https://me:a@b/c@host/", "https://[x"]
)
def test_a_password_whose_end_cannot_be_told_is_refused_without_showing_it(address):
    with pytest.raises(ValueError, match="%2F") as caught:
        split_credentials(address)

    assert "ss" not in str(caught.value).replace("address", "").replace("password", "")


def test_credentials_show_nothing_of_themselves():
    assert repr(Credentials("me", "secret", "token=x")) == str(Credentials("me")) == "Credentials(***)"


secrets = st.text("abcXYZ0189:/?#@!$&'()*+,;=-._~%|", min_size=1).map(lambda text: f"S3cr{text}Et")


@given(secrets, st.sampled_from(["https", "http", "socks5"]))
def test_no_password_survives_however_it_is_written(secret, scheme):
    for text in (shown(f"{scheme}://user:{secret}@host/path"), shown(f"{scheme}://host/path?key={secret}")):
        assert "S3cr" not in text
        assert "Et" not in text
